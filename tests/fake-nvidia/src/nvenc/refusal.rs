//! Why a call is refused, and what every call looks at first.

use nvidia_video_codec_sdk::sys::nvEncodeAPI::{GUID, NVENCSTATUS};

use crate::journal::breach;

pub struct Refusal {
    pub status: NVENCSTATUS,
    pub why: String,
}

impl Refusal {
    /// The machine is at fault, as the settings ask for.
    pub fn fault(status: NVENCSTATUS, why: impl Into<String>) -> Refusal {
        Refusal { status, why: why.into() }
    }

    /// The client broke a rule of the header's.
    pub fn breach(status: NVENCSTATUS, why: impl Into<String>) -> Refusal {
        let why = why.into();
        breach(&why);
        Refusal { status, why }
    }

    pub fn parameter(why: impl Into<String>) -> Refusal {
        Refusal::breach(NVENCSTATUS::NV_ENC_ERR_INVALID_PARAM, why)
    }
}

/// Refuses a call whose client broke this rule.
pub fn rule(kept: bool, status: NVENCSTATUS, rule: &str) -> Result<(), Refusal> {
    if kept { Ok(()) } else { Err(Refusal::breach(status, rule)) }
}

/// Refuses a call with a parameter that is not as this rule has it.
pub fn expect(kept: bool, text: &str) -> Result<(), Refusal> {
    rule(kept, NVENCSTATUS::NV_ENC_ERR_INVALID_PARAM, text)
}

/// What a pointer is to.
///
/// # Safety
///
/// It must be null, or to a `T` that nobody else uses.
pub unsafe fn pointee<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Refusal> {
    // SAFETY: the caller vouches for it.
    let found = unsafe { pointer.as_mut() };
    found.ok_or_else(|| Refusal::breach(NVENCSTATUS::NV_ENC_ERR_INVALID_PTR, format!("{what} is null")))
}

/// A structure, which begins with its version. The version is looked at before anything else.
///
/// # Safety
///
/// The pointer must be null, or to a number, and to a `T` where that number is this version.
pub unsafe fn structure<'a, T>(pointer: *mut T, version: u32, name: &str) -> Result<&'a mut T, Refusal> {
    // SAFETY: the caller vouches for the number.
    let found = *unsafe { pointee(pointer.cast::<u32>(), name)? };
    let why = format!("{name} has version {found:#x} where {version:#x} was expected");
    rule(found == version, NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION, &why)?;
    // SAFETY: the caller vouches for a structure of this version.
    unsafe { pointee(pointer, name) }
}

/// Looks whether what the header reserves is all zeros.
pub fn reserved_is_zero<T>(reserved: &[T], name: &str) -> Result<(), Refusal> {
    // SAFETY: they are numbers and pointers, which consist of bytes without padding.
    let bytes = unsafe { std::slice::from_raw_parts(reserved.as_ptr().cast::<u8>(), size_of_val(reserved)) };
    expect(bytes.iter().all(|&byte| byte == 0), &format!("what {name} reserves is not zero"))
}

/// Refuses a GUID that was not offered.
pub fn offered(guid: GUID, offer: &[GUID], what: &str) -> Result<(), Refusal> {
    rule(offer.contains(&guid), NVENCSTATUS::NV_ENC_ERR_UNSUPPORTED_PARAM, &format!("{what} was not offered"))
}
