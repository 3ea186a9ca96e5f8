//! A GPU's frames are the software decoder's, sample for sample. These tests need a GPU, so they only run
//! when they are asked for: `cargo test --test nvdec -- --ignored`, with a folder of films in
//! `RIVET_TEST_MEDIA`.
#![cfg(feature = "nvidia")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{BUNNY_5S, FLOWER, FRIDAY, Project, clip, ffmpeg};
use rivet::testing::media::{
    self, FrameDigest, GpuDecoder, GpuTrouble, PacketReader, SpanDecoder, VideoTrack,
};

/// The GPUs that decode here.
fn gpus() -> Vec<GpuDecoder> {
    let (found, problems) = media::gpu_decoders();
    assert!(problems.is_empty(), "{problems:?}");
    assert!(!found.is_empty(), "there is no GPU that decodes on this machine");
    found
}

type Decoded = Vec<Result<Vec<(u32, FrameDigest)>, String>>;

/// What each span decodes to, and why the GPU did not do some of them.
fn decode(path: &Path, track: &Arc<VideoTrack>, gpu: Option<&GpuDecoder>) -> (Decoded, Vec<GpuTrouble>) {
    let mut reader = PacketReader::open(path, Arc::clone(track)).unwrap();
    let mut troubles = Vec::new();
    let decoded = (0..track.spans.len()).map(|number| {
        let span = reader.read_span(number).unwrap();
        let mut decoder = match gpu {
            Some(gpu) => SpanDecoder::on_gpu(span, 1, gpu, None).unwrap(),
            None => SpanDecoder::new(span, 1).unwrap(),
        };
        let mut frames = Vec::new();
        let result = loop {
            match decoder.next_frame() {
                Ok(Some(decoded)) => frames.push((decoded.rank, decoded.frame.digest())),
                Ok(None) => break Ok(frames),
                Err(error) => break Err(error.to_string()),
            }
        };
        troubles.extend(decoder.gpu_trouble().cloned());
        result
    });
    (decoded.collect(), troubles)
}

/// Compares a film's frames, and returns why some spans were not for the GPU.
fn compare(path: &Path, gpu: &GpuDecoder) -> Vec<GpuTrouble> {
    let track = Arc::new(media::scan(path, &|| false).unwrap().video);
    let (expected, _) = decode(path, &track, None);
    let (found, troubles) = decode(path, &track, Some(gpu));
    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
        let name = path.display();
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                assert_eq!(expected.len(), found.len(), "{name}: frames of span {number}");
                let differs = expected.iter().zip(found).position(|(expected, found)| expected != found);
                assert_eq!(differs, None, "{name}: the first frame of span {number} that differs");
            }
            _ => assert_eq!(expected, found, "{name}: span {number}"),
        }
    }
    eprintln!(
        "{}: {} {}, {} spans, {} of them in software{}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        track.codec,
        track.pixel_format,
        track.spans.len(),
        troubles.len(),
        troubles.first().map(|trouble| format!(" ({trouble})")).unwrap_or_default(),
    );
    assert!(!troubles.iter().any(|trouble| matches!(trouble, GpuTrouble::Failed(_))), "{troubles:?}");
    troubles
}

fn decodes(gpu: &GpuDecoder, name: &str, bit_depth: u8) -> bool {
    gpu.codecs.iter().any(|codec| (&*codec.name, codec.bit_depth) == (name, bit_depth))
}

#[test]
#[ignore = "needs a GPU that decodes"]
fn the_clips_of_the_repository() {
    for gpu in gpus() {
        for name in [FLOWER, FRIDAY, BUNNY_5S] {
            let troubles = compare(&clip(name), &gpu);
            assert!(!decodes(&gpu, "H.264", 8) || troubles.is_empty(), "{name}: {troubles:?}");
        }
    }
}

/// Every codec and depth that the GPU has, with open groups of pictures where the encoder makes any.
#[test]
#[ignore = "needs a GPU that decodes"]
fn films_made_for_it() {
    let gpus = gpus();
    let project = Project::new();
    #[rustfmt::skip]
    let films: [(&str, u8, &str, &[&str]); 9] = [
        ("H.264", 8, "open.mp4", &["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=24:b-pyramid=normal:bframes=4"]),
        ("H.264", 8, "full.mkv", &["-c:v", "libx264", "-vf", "scale=out_range=full", "-pix_fmt", "yuvj420p"]),
        ("H.264", 8, "stream.ts", &["-c:v", "libx264", "-x264-params", "keyint=24:bframes=3"]),
        ("HEVC", 8, "hevc8.mp4", &["-c:v", "libx265", "-x265-params", "keyint=24:log-level=none"]),
        ("HEVC", 10, "hevc10.mkv", &["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "keyint=24:log-level=none"]),
        ("HEVC", 12, "hevc12.mp4", &["-c:v", "libx265", "-pix_fmt", "yuv420p12le", "-x265-params", "keyint=24:log-level=none"]),
        ("VP9", 8, "vp9.webm", &["-c:v", "libvpx-vp9", "-g", "24", "-cpu-used", "8", "-b:v", "1M"]),
        ("VP9", 10, "vp9p2.webm", &["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-g", "24", "-cpu-used", "8", "-b:v", "1M"]),
        ("AV1", 8, "av1.mp4", &["-c:v", "libsvtav1", "-g", "24", "-preset", "10"]),
    ];
    for (codec, bit_depth, name, options) in films {
        let (from, to) = (clip(FLOWER), project.path(name));
        let ends =
            [&["-i", from.to_str().unwrap(), "-an", "-frames:v", "72"], options, &[to.to_str().unwrap()]];
        ffmpeg(&ends.concat());
        for gpu in &gpus {
            let troubles = compare(&to, gpu);
            assert!(!decodes(gpu, codec, bit_depth) || troubles.is_empty(), "{name}: {troubles:?}");
        }
    }
}

/// A damaged film is as damaged on a GPU.
#[test]
#[ignore = "needs a GPU that decodes"]
fn damage() {
    for gpu in gpus() {
        let folder = Project::new();
        let film = std::fs::read(clip(FLOWER)).unwrap();
        for (number, place) in [film.len() / 3, film.len() / 2].into_iter().enumerate() {
            let mut film = film.clone();
            film[place..place + 2000].fill(0x55);
            compare(&folder.write(&format!("{number}.mp4"), film), &gpu);
        }
    }
}

/// Films of any kind: those that are not for a GPU decode to the same frames, too.
#[test]
#[ignore = "needs a GPU that decodes, and films that RIVET_TEST_MEDIA names"]
fn films_that_were_named() {
    let folder = std::env::var_os("RIVET_TEST_MEDIA").expect("RIVET_TEST_MEDIA names a folder of films");
    let mut films: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    films.sort();
    for gpu in gpus() {
        eprintln!("{}: {} engines, {:?}", gpu.name, gpu.engines, gpu.codecs);
        for film in &films {
            compare(film, &gpu);
        }
    }
}
