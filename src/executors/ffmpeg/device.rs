//! Devices that encoders take their frames from, and frames on them: the little of FFmpeg's
//! interface to hardware that an upload needs.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

use ffmpeg::codec::encoder::video;
use ffmpeg::ffi::{self, AVHWDeviceType};
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

/// Frames that an encoder may hold at a time, references and those on their way.
const SURFACES: i32 = 20;

/// FFmpeg's kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceKind(pub AVHWDeviceType);

impl DeviceKind {
    pub const VAAPI: DeviceKind = DeviceKind(AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI);
    pub const QSV: DeviceKind = DeviceKind(AVHWDeviceType::AV_HWDEVICE_TYPE_QSV);
    pub const CUDA: DeviceKind = DeviceKind(AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA);

    /// FFmpeg's name, e.g. `vaapi`.
    pub fn name(self) -> &'static str {
        // SAFETY: the function takes any value of the type and returns null or a static string.
        unsafe {
            let name = ffi::av_hwdevice_get_type_name(self.0);
            if name.is_null() { "?" } else { CStr::from_ptr(name).to_str().unwrap_or("?") }
        }
    }
}

/// A counted reference of FFmpeg's.
struct Reference(NonNull<ffi::AVBufferRef>);

// SAFETY: FFmpeg counts references atomically; a device and its frames may be used from any thread
// once they are set up, which they are before a `Reference` is made of them.
unsafe impl Send for Reference {}
// SAFETY: as above.
unsafe impl Sync for Reference {}

impl Reference {
    /// Takes over a reference; `None` for null.
    fn own(reference: *mut ffi::AVBufferRef) -> Option<Reference> {
        NonNull::new(reference).map(Reference)
    }

    /// Another reference, for FFmpeg to keep; null where there is no memory.
    fn another(&self) -> *mut ffi::AVBufferRef {
        // SAFETY: the reference is live.
        unsafe { ffi::av_buffer_ref(self.0.as_ptr()) }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let mut reference = self.0.as_ptr();
        // SAFETY: the reference is live and ours, and is not used again.
        unsafe { ffi::av_buffer_unref(&mut reference) };
    }
}

fn no_memory() -> ffmpeg::Error {
    ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM }
}

fn checked(status: i32) -> Result<(), ffmpeg::Error> {
    if status < 0 { Err(ffmpeg::Error::from(status)) } else { Ok(()) }
}

/// An open device.
pub struct Device {
    kind: DeviceKind,
    reference: Reference,
}

impl Device {
    /// Opens FFmpeg's default device of a kind.
    pub fn open(kind: DeviceKind) -> Result<Device, ffmpeg::Error> {
        let mut reference = ptr::null_mut();
        // SAFETY: the function writes a reference of ours, or an error; null stands for the default
        // device and for no options.
        let status =
            unsafe { ffi::av_hwdevice_ctx_create(&mut reference, kind.0, ptr::null(), ptr::null_mut(), 0) };
        checked(status)?;
        Ok(Device { kind, reference: Reference::own(reference).ok_or_else(no_memory)? })
    }

    /// The vendor string of a VA-API driver: its name, the GPU, its version.
    pub fn vaapi_vendor(&self) -> Option<String> {
        if self.kind != DeviceKind::VAAPI {
            return None;
        }
        // SAFETY: a device's buffer holds an AVHWDeviceContext, and that of this kind an
        // AVVAAPIDeviceContext, whose first field is the VADisplay (hwcontext_vaapi.h). The function of
        // libva takes such a display and returns a string of the driver's (va.h), which is copied
        // while the device is open. libva stays loaded, as FFmpeg uses it.
        unsafe {
            let context = (*self.reference.0.as_ptr()).data.cast::<ffi::AVHWDeviceContext>();
            let display = *(*context).hwctx.cast::<*mut c_void>();
            let libva = libloading::Library::new("libva.so.2").ok()?;
            let vendor: libloading::Symbol<unsafe extern "C" fn(*mut c_void) -> *const c_char> =
                libva.get(b"vaQueryVendorString\0").ok()?;
            let text = vendor(display);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// Frames of one size and format on a device.
pub struct Surfaces(Reference);

impl Surfaces {
    /// `surface` is the device's pixel format, `samples` that of the frames that are uploaded.
    pub fn new(
        device: &Device,
        surface: Pixel,
        samples: Pixel,
        (width, height): (u32, u32),
    ) -> Result<Surfaces, ffmpeg::Error> {
        // SAFETY: the device is live; the buffer that is allocated holds an AVHWFramesContext, which is
        // ours alone until it is set up.
        unsafe {
            let frames = ffi::av_hwframe_ctx_alloc(device.reference.0.as_ptr());
            let frames = Reference::own(frames).ok_or_else(no_memory)?;
            let context = (*frames.0.as_ptr()).data.cast::<ffi::AVHWFramesContext>();
            (*context).format = surface.into();
            (*context).sw_format = samples.into();
            (*context).width = width as i32;
            (*context).height = height as i32;
            (*context).initial_pool_size = SURFACES;
            checked(ffi::av_hwframe_ctx_init(frames.0.as_ptr()))?;
            Ok(Surfaces(frames))
        }
    }

    /// Has an encoder that is not open yet take its frames from here.
    pub fn feed(&self, encoder: &mut video::Video) {
        // SAFETY: the context is live and ours; it keeps the reference, and gives it back when it is
        // freed. It has none yet.
        unsafe { (*encoder.as_mut_ptr()).hw_frames_ctx = self.0.another() }
    }

    /// The frame on the device.
    pub fn upload(&self, frame: &Video) -> Result<Video, ffmpeg::Error> {
        let mut uploaded = Video::empty();
        // SAFETY: the frames are live, the target is an empty frame of ours that takes a buffer of
        // theirs, and the source is a frame in memory of the format and size that they were made for.
        unsafe {
            checked(ffi::av_hwframe_get_buffer(self.0.0.as_ptr(), uploaded.as_mut_ptr(), 0))?;
            checked(ffi::av_hwframe_transfer_data(uploaded.as_mut_ptr(), frame.as_ptr(), 0))?;
        }
        Ok(uploaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever devices this machine has: a frame that was uploaded comes back as it was. Where there
    /// is none, an error tells so.
    #[test]
    fn a_picture_comes_back_from_a_device_as_it_was() {
        crate::media::init();
        for (kind, surface, samples) in [
            (AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI, Pixel::VAAPI, Pixel::NV12),
            (AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA, Pixel::CUDA, Pixel::NV12),
            (AVHWDeviceType::AV_HWDEVICE_TYPE_OPENCL, Pixel::OPENCL, Pixel::YUV420P),
        ] {
            let device = match Device::open(DeviceKind(kind)) {
                Ok(device) => device,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    continue;
                }
            };
            let mut frame = Video::new(samples, 320, 180);
            for plane in 0..frame.planes() {
                for (at, sample) in frame.data_mut(plane).iter_mut().enumerate() {
                    *sample = (at * 7 % 251) as u8;
                }
            }
            let surfaces = Surfaces::new(&device, surface, samples, (320, 180)).unwrap();
            let uploaded = surfaces.upload(&frame).unwrap();
            assert_eq!(uploaded.format(), surface);
            let mut back = Video::new(samples, 320, 180);
            // SAFETY: both frames are live, one on the device and one of the same size in memory.
            let status = unsafe { ffi::av_hwframe_transfer_data(back.as_mut_ptr(), uploaded.as_ptr(), 0) };
            checked(status).unwrap();
            for plane in 0..frame.planes() {
                let row_bytes = if plane == 0 || samples == Pixel::NV12 { 320 } else { 160 };
                let rows = |frame: &Video| -> Vec<Vec<u8>> {
                    let rows = frame.data(plane).chunks(frame.stride(plane));
                    rows.map(|row| row[..row_bytes].to_vec()).collect()
                };
                assert!(rows(&back) == rows(&frame), "{}", DeviceKind(kind).name());
            }
        }
    }
}
