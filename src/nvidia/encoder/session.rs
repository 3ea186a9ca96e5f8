//! An encode session: opened on a GPU's context, closed when it is dropped. What belongs to a
//! session must be given back before.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::EncodeError;
use super::api::{
    Api, Functions, INCOMPATIBLE_CLIENT_KEY, NO_ENCODE_DEVICE, OUT_OF_MEMORY, Status, UNSUPPORTED_DEVICE,
    api, check,
};
use crate::nvidia::Context;

pub struct Session {
    api: &'static Api,
    context: Arc<Context>,
    handle: *mut c_void,
}

// SAFETY: any thread may use a session, one at a time.
unsafe impl Send for Session {}

impl Session {
    pub fn open(context: &Arc<Context>) -> Result<Session, EncodeError> {
        let api = api()?;
        let _current = context.enter()?;
        let mut params = NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS {
            version: NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER,
            deviceType: NV_ENC_DEVICE_TYPE::NV_ENC_DEVICE_TYPE_CUDA,
            device: context.raw(),
            apiVersion: NVENCAPI_VERSION,
            ..Default::default()
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: the context is held, and the function writes one handle.
        let status = unsafe { (api.functions.nvEncOpenEncodeSessionEx)(&mut params, &mut handle) };
        let Err(error) = check("nvEncOpenEncodeSessionEx", status, None) else {
            return Ok(Session { api, context: Arc::clone(context), handle });
        };
        if !handle.is_null() {
            // SAFETY: the header asks for it where opening failed half-way.
            unsafe { (api.functions.nvEncDestroyEncoder)(handle) };
        }
        Err(match status {
            NO_ENCODE_DEVICE | UNSUPPORTED_DEVICE => EncodeError::NoEncoder,
            // The status for too many open sessions: newer drivers return the first, older ones the second.
            OUT_OF_MEMORY | INCOMPATIBLE_CLIENT_KEY => EncodeError::NoRoom(error.to_string()),
            _ => error,
        })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Makes a call on the session and returns its status; the context is current meanwhile.
    pub fn status(
        &self,
        call: impl FnOnce(&Functions, *mut c_void) -> Status,
    ) -> Result<Status, EncodeError> {
        let _current = self.context.enter()?;
        Ok(call(&self.api.functions, self.handle))
    }

    /// Makes a call on the session; `name` is the function's in the header.
    pub fn call(
        &self,
        name: &'static str,
        call: impl FnOnce(&Functions, *mut c_void) -> Status,
    ) -> Result<(), EncodeError> {
        let status = self.status(call)?;
        self.check(name, status)
    }

    /// Makes an error of the status of the session's last call, if it is one.
    pub fn check(&self, name: &'static str, status: Status) -> Result<(), EncodeError> {
        // SAFETY: the session is open.
        unsafe { self.api.check(name, status, self.handle) }
    }

    /// The codecs that the encoder supports.
    pub fn codecs(&self) -> Result<Vec<GUID>, EncodeError> {
        let mut count = 0;
        // SAFETY: the function writes one number.
        self.call("nvEncGetEncodeGUIDCount", |functions, session| unsafe {
            (functions.nvEncGetEncodeGUIDCount)(session, &mut count)
        })?;
        let mut codecs = vec![GUID::default(); count as usize];
        let mut filled = 0;
        // SAFETY: the function writes at most `count` GUIDs, for which there is room, and a number.
        self.call("nvEncGetEncodeGUIDs", |functions, session| unsafe {
            (functions.nvEncGetEncodeGUIDs)(session, codecs.as_mut_ptr(), count, &mut filled)
        })?;
        codecs.truncate(filled as usize);
        Ok(codecs)
    }

    /// A capability of the encoder for AV1.
    pub fn capability(&self, of: NV_ENC_CAPS) -> Result<c_int, EncodeError> {
        let mut params =
            NV_ENC_CAPS_PARAM { version: NV_ENC_CAPS_PARAM_VER, capsToQuery: of, ..Default::default() };
        let mut value = 0;
        // SAFETY: the function reads the structure and writes one number.
        self.call("nvEncGetEncodeCaps", |functions, session| unsafe {
            (functions.nvEncGetEncodeCaps)(session, NV_ENC_CODEC_AV1_GUID, &mut params, &mut value)
        })?;
        Ok(value)
    }

    /// The configuration of a preset for AV1, tuned for quality.
    pub fn preset(&self, preset: GUID) -> Result<NV_ENC_CONFIG, EncodeError> {
        let mut config = MaybeUninit::<NV_ENC_PRESET_CONFIG>::zeroed();
        let place = config.as_mut_ptr();
        // SAFETY: all zeros is a value of every field but `frameFieldMode`, which is set; and the
        // driver, which speaks this version, writes only what the header knows.
        unsafe {
            (&raw mut (*place).version).write(NV_ENC_PRESET_CONFIG_VER);
            (&raw mut (*place).presetCfg.version).write(NV_ENC_CONFIG_VER);
            (&raw mut (*place).presetCfg.frameFieldMode)
                .write(NV_ENC_PARAMS_FRAME_FIELD_MODE::NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME);
            self.call("nvEncGetEncodePresetConfigEx", |functions, session| {
                (functions.nvEncGetEncodePresetConfigEx)(
                    session,
                    NV_ENC_CODEC_AV1_GUID,
                    preset,
                    NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_HIGH_QUALITY,
                    place,
                )
            })?;
            Ok(config.assume_init().presetCfg)
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A failure is ignored: there is nothing to do about it.
        // SAFETY: the session is open, and nothing uses it after this.
        let _ = self.status(|functions, session| unsafe { (functions.nvEncDestroyEncoder)(session) });
    }
}
