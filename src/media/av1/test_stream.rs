//! AV1 streams for tests, made by encoders that are not ours through the `ffmpeg` program. A test
//! that cannot run it fails, so that a missing tool never looks like success.

use std::path::Path;
use std::process::Command;

pub(crate) const ENCODERS: [&str; 3] = ["libsvtav1", "libaom-av1", "librav1e"];

/// A temporal unit, and whether ffprobe holds it for a key frame.
pub(crate) struct Unit {
    pub data: Vec<u8>,
    pub key: bool,
}

/// `frames` frames of a moving 320x180 test picture at 24000/1001 frames a second, encoded with
/// `options` given to `encoder`.
pub(crate) fn encode(encoder: &str, options: &str, frames: usize, pixel_format: &str) -> Vec<Unit> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.ivf");
    let fast = match encoder {
        "libsvtav1" => "-preset 12 -svtav1-params lp=1",
        "libaom-av1" => "-cpu-used 8 -usage realtime -threads 1",
        _ => "-speed 10",
    };
    let source = format!("testsrc2=size=320x180:rate=24000/1001,format={pixel_format}");
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &source])
        .args(["-frames:v", &frames.to_string(), "-c:v", encoder])
        .args(fast.split_whitespace())
        .args(options.split_whitespace())
        .arg(&path));
    let keys = key_frames(&path);
    let units = ivf_frames(&std::fs::read(&path).unwrap());
    assert_eq!((units.len(), keys.len()), (frames, frames), "{encoder} {options}");
    units.into_iter().zip(keys).map(|(data, key)| Unit { data, key }).collect()
}

/// The bytes of all pictures of a stream of temporal units, as the `ffmpeg` program decodes them.
pub(crate) fn decode(stream: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (path, pictures) = (folder.path().join("stream.obu"), folder.path().join("pictures.yuv"));
    std::fs::write(&path, stream).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-xerror", "-nostdin", "-i"]).arg(&path);
    run(command.args(["-f", "rawvideo"]).arg(&pictures));
    let pictures = std::fs::read(pictures).unwrap();
    assert!(!pictures.is_empty());
    pictures
}

fn key_frames(path: &Path) -> Vec<bool> {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-show_entries", "packet=flags", "-of", "csv=p=0"]).arg(path);
    run(&mut probe).lines().map(|flags| flags.starts_with('K')).collect()
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("ffmpeg and ffprobe are needed by this test");
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The frames of an IVF file: a 32-byte header, then for each its length (u32, little-endian), an
/// 8-byte time stamp and its bytes.
fn ivf_frames(file: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(&file[..4], b"DKIF");
    let mut rest = &file[32..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().unwrap();
        let (frame, after) = after[8..].split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}
