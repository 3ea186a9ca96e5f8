//! What a span decodes to does not depend on what a GPU does with it, without a GPU: what one would
//! send is made up from what software decodes.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::media::{FrameDigest, PacketReader, scan};

/// A frame, the end, or why the GPU brings no more.
pub(super) type Message = Result<Option<Frame>, GpuTrouble>;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");

fn span() -> SpanPackets {
    let track = Arc::new(scan(Path::new(CLIP), &|| false).unwrap().video);
    PacketReader::open(Path::new(CLIP), track).unwrap().read_span(0).unwrap()
}

/// All that a decoder hands out, and the error that ends it.
fn all(decoder: &mut SpanDecoder) -> (Vec<(u32, FrameDigest)>, Option<MediaError>) {
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(decoded)) => frames.push((decoded.rank, decoded.frame.digest())),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// The span, decoded by a GPU that sends these messages.
fn scripted(span: SpanPackets, messages: Vec<Message>) -> SpanDecoder {
    let path = span.path.clone();
    let (source, rules) = prepare(span, 1);
    let backend = Backend::Scripted(messages.into_iter());
    SpanDecoder { reserve: Some(source), ..SpanDecoder::with(backend, path, rules) }
}

/// The span's frames, as a GPU would send them.
fn gpu_frames() -> Vec<Message> {
    let mut decoder = SpanDecoder::new(span(), 1).unwrap();
    let mut frames = Vec::new();
    while let Some(decoded) = decoder.next_frame().unwrap() {
        let mut video = decoded.frame.video().clone();
        video.set_pts(Some(decoded.rank.into()));
        frames.push(Ok(Some(Frame::new(video))));
    }
    frames
}

#[test]
fn software_goes_on_where_the_gpu_stops() {
    let (expected, error) = all(&mut SpanDecoder::new(span(), 1).unwrap());
    assert!(error.is_none() && expected.len() > 40, "{} frames", expected.len());
    let failed = || GpuTrouble::Failed("it fell off the bus".to_owned());
    for came in [0, 1, 17, expected.len()] {
        let mut messages: Vec<Message> = gpu_frames().into_iter().take(came).collect();
        messages.push(Err(failed()));
        let mut decoder = scripted(span(), messages);
        let (frames, error) = all(&mut decoder);
        assert!(error.is_none() && frames == expected, "after {came}");
        assert_eq!(decoder.gpu_trouble(), Some(&failed()));
    }
}

#[test]
fn the_gpu_does_it_all() {
    let (expected, _) = all(&mut SpanDecoder::new(span(), 1).unwrap());
    let mut messages = gpu_frames();
    messages.push(Ok(None));
    let mut decoder = scripted(span(), messages);
    assert_eq!(all(&mut decoder).0, expected);
    assert_eq!(decoder.gpu_trouble(), None);
}

#[test]
fn what_is_missing_at_the_end_is_noticed() {
    let (expected, _) = all(&mut SpanDecoder::new(span(), 1).unwrap());
    let mut too_few: Vec<Message> = gpu_frames().into_iter().take(30).collect();
    too_few.push(Ok(None));
    let silent = Vec::new();
    for messages in [too_few, silent] {
        let mut decoder = scripted(span(), messages);
        let (frames, error) = all(&mut decoder);
        assert!(error.is_none() && frames == expected);
        assert!(decoder.gpu_trouble().is_some());
    }
}

/// Errors are the software decoder's, word for word.
#[test]
fn damage_is_reported_as_without_a_gpu() {
    let broken = || {
        let mut span = span();
        let bytes = span.packets[25].data_mut().unwrap();
        bytes[40..].fill(0x55);
        span
    };
    let (expected, error) = all(&mut SpanDecoder::new(broken(), 1).unwrap());
    let error = error.unwrap().to_string();
    let messages = vec![Err(GpuTrouble::Anomaly("a frame could not be decoded".to_owned()))];
    let (frames, with_gpu) = all(&mut scripted(broken(), messages));
    assert_eq!((frames, with_gpu.unwrap().to_string()), (expected, error));
}
