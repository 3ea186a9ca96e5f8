//! What others' AV1 decoders make of a rung.

use std::fs;

use rivet::testing::media::av1::{SequenceHeader, sequence_header_obu};

use super::Project;

/// Asserts that dav1d, with every check that it has, aomdec and ffmpeg decode all frames of a rung to
/// the same pictures of that size and depth, and that every segment's own header says what the container
/// says of the level, and the same as all others.
pub fn assert_sound(project: &Project, rung: &str, height: u64, depth: u8, frames: u64) {
    let joined = project.path(&format!("{rung}.mp4"));
    super::join_track(&project.path("out").join(rung), &joined);
    let file = |name: &str| project.path(&format!("{rung}-{name}"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ivf, yuv) = (text(&file("stream.ivf")), file("dav1d.yuv"));
    super::ffmpeg(&["-i", &text(&joined), "-c", "copy", &ivf]);
    super::quietly("dav1d", ["-i", &ivf, "-o", &text(&yuv), "--quiet", "--strict", "1"]);
    let pictures = fs::read(&yuv).unwrap();
    let reference = file("aomdec.yuv");
    super::quietly("aomdec", ["--rawvideo", "-o", &text(&reference), &ivf]);
    assert!(fs::read(&reference).unwrap() == pictures, "{rung}: dav1d and aomdec differ");
    let other = file("ffmpeg.yuv");
    super::ffmpeg(&["-i", &text(&joined), "-f", "rawvideo", "-fps_mode", "passthrough", &text(&other)]);
    assert!(fs::read(&other).unwrap() == pictures, "{rung}: dav1d and ffmpeg differ");

    let probed = super::ffprobe(&joined, &["-count_frames", "-show_streams"]);
    let stream = &probed["streams"][0];
    assert_eq!(stream["nb_read_frames"], frames.to_string(), "{stream}");
    assert_eq!(stream["height"].as_u64(), Some(height), "{stream}");
    let width = stream["width"].as_u64().unwrap();
    let samples = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
    let bytes = if depth > 8 { 2 } else { 1 };
    assert_eq!(pictures.len() as u64, frames * bytes * samples, "{stream}");
    let headers = headers(project, rung);
    assert!(headers.iter().all(|(_, header)| *header == headers[0].1), "{headers:?}");
    assert_eq!(headers[0].1.bit_depth, depth);
    assert_eq!(Some(u64::from(headers[0].1.seq_level_idx)), stream["level"].as_u64());
}

/// The sequence header of each of a rung's segments, as its first sample has it.
pub fn headers(project: &Project, rung: &str) -> Vec<(String, SequenceHeader)> {
    let files = super::files_under(&project.path("out").join(rung));
    let segments = files.into_iter().filter(|(name, _)| name.ends_with(".m4s"));
    let header = |(name, segment): (String, Vec<u8>)| {
        let mdat = segment.windows(4).position(|bytes| bytes == b"mdat").expect("an mdat box") + 4;
        let header = sequence_header_obu(&segment[mdat..]).unwrap().expect("a header");
        (name, SequenceHeader::parse(header).unwrap())
    };
    segments.map(header).collect()
}
