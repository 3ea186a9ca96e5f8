//! How an encoder is initialised, and what follows from it for the order of its packets.

use std::collections::VecDeque;
use std::ffi::c_void;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::query::{HEIGHTS, WIDTHS, codec_offered, preset_offered};
use super::refusal::{Refusal, expect, reserved_is_zero, rule, structure};
use super::session::on_session;
use super::stream::{Format, Stream};
use crate::settings::settings;

pub struct Encoding {
    pub width: u32,
    pub height: u32,
    pub format: NV_ENC_BUFFER_FORMAT,
    pub stream: Stream,
    /// A key frame begins every so many pictures.
    pub key_interval: u64,
    /// Every so many pictures one is no B frame: with the others, those before it can be encoded.
    interval: u64,
    /// Pictures that must have come behind one before it is encoded.
    lookahead: u64,
    /// Pictures that came.
    pub submitted: u64,
    /// Those of them whose packets may be locked, and those whose packets were.
    pub ready: u64,
    pub locked: u64,
    /// Where the packets go of pictures that came and were not locked, oldest first.
    pub queue: VecDeque<Pending>,
    /// Whether the end of the stream was told.
    pub ended: bool,
    /// How often the encoder has said that it was busy.
    pub busy: u32,
}

pub struct Pending {
    pub bitstream: usize,
    pub input: usize,
    pub time_stamp: u64,
}

impl Encoding {
    /// Whether pictures came and the encoder was not flushed.
    pub fn is_pending(&self) -> bool {
        self.submitted > 0 && !self.ended
    }

    /// Counts which packets may be locked now that a picture, or the end, has come; whether there
    /// are more of them.
    pub fn advance(&mut self) -> bool {
        let before = self.ready;
        let newest = self.submitted.saturating_sub(1);
        if self.ended {
            self.ready = self.submitted;
        } else if newest.is_multiple_of(self.interval) {
            self.ready = self.stream.made().saturating_sub(self.lookahead).max(before);
        }
        self.ready > before
    }
}

pub unsafe extern "C" fn initialize(
    handle: *mut c_void,
    params: *mut NV_ENC_INITIALIZE_PARAMS,
) -> NVENCSTATUS {
    on_session(handle, "nvEncInitializeEncoder", |session| {
        let name = "NV_ENC_INITIALIZE_PARAMS";
        // SAFETY: the client's pointers are null or to what the header says.
        let (params, config) = unsafe {
            let params = structure(params, NV_ENC_INITIALIZE_PARAMS_VER, name)?;
            let config = structure(params.encodeConfig, NV_ENC_CONFIG_VER, "NV_ENC_CONFIG")?;
            (params, config)
        };
        reserved_is_zero(&params.reserved, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        reserved_is_zero(&config.reserved, "NV_ENC_CONFIG")?;
        reserved_is_zero(&config.reserved2, "NV_ENC_CONFIG")?;
        check_session(params)?;
        check_pattern(config)?;
        // SAFETY: the codec is AV1, as was just looked at.
        let av1 = unsafe { &config.encodeCodecConfig.av1Config };
        let (format, buffers) = stream_format(params, config, av1)?;
        let stream = Stream::new(&format, settings().fault_of(session.gpu));
        let stream = stream.ok_or_else(|| Refusal::parameter("AV1 has no such colours"))?;
        let lookahead = &config.rcParams;
        session.initialize(Encoding {
            width: params.encodeWidth,
            height: params.encodeHeight,
            format: buffers,
            stream,
            key_interval: u64::from(if av1.idrPeriod == 0 { config.gopLength } else { av1.idrPeriod }),
            interval: u64::try_from(config.frameIntervalP).unwrap_or(1).max(1),
            lookahead: if lookahead.enableLookahead() == 1 { u64::from(lookahead.lookaheadDepth) } else { 0 },
            submitted: 0,
            ready: 0,
            locked: 0,
            queue: VecDeque::new(),
            ended: false,
            busy: 0,
        })
    })
}

fn check_session(params: &NV_ENC_INITIALIZE_PARAMS) -> Result<(), Refusal> {
    codec_offered(params.encodeGUID)?;
    expect(params.encodeGUID == NV_ENC_CODEC_AV1_GUID, "this driver encodes AV1 alone")?;
    preset_offered(params.presetGUID)?;
    expect(params.tuningInfo != NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_UNDEFINED, "the tuning is undefined")?;
    expect(params.enableEncodeAsync == 0, "asynchronous mode is Windows's alone")?;
    expect(params.enablePTD == 1, "this driver decides the types of pictures itself")?;
    expect(params.frameRateNum > 0 && params.frameRateDen > 0, "there is no frame rate")?;
    let (width, height) = (params.encodeWidth, params.encodeHeight);
    let fits = (WIDTHS.0..=WIDTHS.1).contains(&width) && (HEIGHTS.0..=HEIGHTS.1).contains(&height);
    expect(fits, &format!("pictures of {width}x{height} are too small or too large"))?;
    // They are AV1's render size, and not a ratio as for other codecs.
    let render = (params.darWidth, params.darHeight);
    expect(render == (width, height), &format!("the render size is {render:?}, for square samples"))
}

/// Looks at what types of pictures follow one another.
fn check_pattern(config: &NV_ENC_CONFIG) -> Result<(), Refusal> {
    let profiles = [NV_ENC_AV1_PROFILE_MAIN_GUID, NV_ENC_CODEC_PROFILE_AUTOSELECT_GUID];
    expect(profiles.contains(&config.profileGUID), "the profile is none of AV1's")?;
    let frames = NV_ENC_PARAMS_FRAME_FIELD_MODE::NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME;
    expect(config.frameFieldMode == frames, "AV1 has no fields")?;
    expect(config.frameIntervalP >= 1, "there are key frames alone")?;
    expect(
        config.frameIntervalP - 1 <= settings().b_frames,
        "there are more B frames in a row than it can do",
    )?;
    let infinite = config.gopLength == NVENC_INFINITE_GOPLENGTH;
    expect(!infinite || config.frameIntervalP == 1, "an infinite gopLength goes with a frameIntervalP of 1")?;
    let interval = u32::try_from(config.frameIntervalP).unwrap_or(0);
    expect(config.gopLength >= interval, "gopLength is less than frameIntervalP")?;
    let rate = &config.rcParams;
    let status = NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION;
    rule(rate.version == NV_ENC_RC_PARAMS_VER, status, "rcParams has another version")?;
    let constant = rate.rateControlMode == NV_ENC_PARAMS_RC_MODE::NV_ENC_PARAMS_RC_CONSTQP;
    expect(constant, "this driver knows constant QP alone")?;
    let qp = &rate.constQP;
    expect([qp.qpInterP, qp.qpInterB, qp.qpIntra].iter().all(|&qp| qp <= 255), "a QP is above 255")
}

fn stream_format(
    params: &NV_ENC_INITIALIZE_PARAMS,
    config: &NV_ENC_CONFIG,
    av1: &NV_ENC_CONFIG_AV1,
) -> Result<(Format, NV_ENC_BUFFER_FORMAT), Refusal> {
    reserved_is_zero(&av1.reserved1, "NV_ENC_CONFIG_AV1")?;
    reserved_is_zero(&av1.reserved2, "NV_ENC_CONFIG_AV1")?;
    expect(av1.chromaFormatIDC() == 1, "chromaFormatIDC is not that of 4:2:0")?;
    expect(
        av1.outputAnnexBFormat() == 0 && av1.disableSeqHdr() == 0,
        "the stream is not of OBUs that stand alone",
    )?;
    expect(av1.tier <= 1, "there is no such tier")?;
    let refers = av1.useBFramesAsRef != NV_ENC_BFRAME_REF_MODE::NV_ENC_BFRAME_REF_MODE_DISABLED;
    expect(!refers || config.frameIntervalP > 1, "B frames that there are not would be referred to")?;
    if av1.level != NV_ENC_LEVEL::NV_ENC_LEVEL_AV1_AUTOSELECT as u32 && av1.level > settings().highest_level {
        let status = NVENCSTATUS::NV_ENC_ERR_UNSUPPORTED_PARAM;
        return Err(Refusal::fault(status, "the engine does not go to such a level"));
    }
    let depth = match (av1.inputPixelBitDepthMinus8(), av1.pixelBitDepthMinus8()) {
        (0, 0) => 8,
        (2, 2) if settings().ten_bit => 10,
        depths => return Err(Refusal::parameter(format!("this driver does not convert depths: {depths:?}"))),
    };
    let buffers = match depth {
        8 => NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12,
        _ => NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_YUV420_10BIT,
    };
    let format = Format {
        width: params.encodeWidth,
        height: params.encodeHeight,
        bit_depth: depth,
        quantizer: config.rcParams.constQP.qpInterP,
        level_idx: level(av1.level, params.encodeWidth * params.encodeHeight)?,
        primaries: av1.colorPrimaries as u32,
        transfer: av1.transferCharacteristics as u32,
        matrix: av1.matrixCoefficients as u32,
        full_range: av1.colorRange == 1,
        chroma_position: av1.chromaSamplePosition,
    };
    Ok((format, buffers))
}

/// The level that is asked for, if pictures of so many samples keep it (AV1 Annex A.3); the lowest
/// that they keep where the driver is to choose.
fn level(asked: u32, samples: u32) -> Result<u8, Refusal> {
    const SIZES: [(u8, u32); 7] = [
        (0, 147_456),
        (1, 278_784),
        (4, 665_856),
        (5, 1_065_024),
        (8, 2_359_296),
        (12, 8_912_896),
        (16, 35_651_584),
    ];
    let lowest = SIZES.iter().find(|(_, size)| samples <= *size).map_or(16, |(level, _)| *level);
    if asked == NV_ENC_LEVEL::NV_ENC_LEVEL_AV1_AUTOSELECT as u32 {
        return Ok(lowest);
    }
    let level = u8::try_from(asked).ok().filter(|level| (lowest..=23).contains(level));
    level
        .ok_or_else(|| Refusal::parameter(format!("pictures of {samples} samples do not keep level {asked}")))
}
