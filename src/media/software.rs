//! Decodes the packets of one span with libavcodec. [`SpanDecoder`](super::SpanDecoder) checks that all
//! frames came.

use std::path::Path;
use std::sync::Arc;

use ffmpeg::codec::{self, threading};
use ffmpeg::{Packet, frame};
use ffmpeg_next as ffmpeg;

use super::{CodecParameters, MediaError, ffi};

/// The input of a decoder.
pub(super) struct Source {
    pub parameters: Arc<CodecParameters>,
    /// In decode order, stamped with their ranks where they have any.
    pub packets: Vec<Packet>,
    pub threads: usize,
}

/// An open decoder and the packets that it has not seen.
pub(super) struct SoftwareDecoder {
    decoder: codec::decoder::Opened,
    packets: std::vec::IntoIter<Packet>,
    sent_end: bool,
}

impl SoftwareDecoder {
    pub fn open(source: Source, path: &Path) -> Result<SoftwareDecoder, MediaError> {
        let plain = &source.parameters;
        let no_decoder = || MediaError::NoDecoder { path: path.to_owned(), codec: plain.codec.clone() };
        let decoder = codec::decoder::find(plain.codec_id()).ok_or_else(no_decoder)?;
        let parameters = ffi::codec_parameters::to_ffmpeg(plain).ok_or_else(no_decoder)?;
        let mut context = codec::Context::from_parameters(parameters)
            .map_err(|error| MediaError::library("setting up a decoder", error))?;
        context.set_threading(threading::Config {
            count: source.threads.max(1),
            ..threading::Config::kind(threading::Type::Frame)
        });
        let decoder = context
            .decoder()
            .open_as(decoder)
            .map_err(|error| MediaError::library("opening a decoder", error))?;
        Ok(SoftwareDecoder { decoder, packets: source.packets.into_iter(), sent_end: false })
    }

    /// The next frame; `None` after the last. An error tells what is wrong with the stream; with `leniently`
    /// errors of single packets are ignored.
    pub fn next(&mut self, leniently: bool) -> Result<Option<frame::Video>, String> {
        loop {
            let mut video = frame::Video::empty();
            match self.decoder.receive_frame(&mut video) {
                Ok(()) => return Ok(Some(video)),
                Err(ffmpeg::Error::Eof) => return Ok(None),
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => self.feed(leniently)?,
                Err(ffmpeg::Error::InvalidData) if leniently => {}
                Err(error) => return Err(format!("a frame could not be decoded ({error})")),
            }
        }
    }

    fn feed(&mut self, leniently: bool) -> Result<(), String> {
        let result = match self.packets.next() {
            Some(packet) => self.decoder.send_packet(&packet),
            None if self.sent_end => return Err("the decoder does not finish".to_owned()),
            None => {
                self.sent_end = true;
                self.decoder.send_eof()
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(ffmpeg::Error::InvalidData) if leniently => Ok(()),
            Err(error) => Err(format!("a packet could not be decoded ({error})")),
        }
    }
}
