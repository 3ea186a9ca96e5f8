//! What tests ask of FFmpeg's programs: to make sound, and to say what they see in a package. Any
//! warning of theirs fails the test, and so does their absence.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("ffmpeg and ffprobe are needed by this test");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {stderr}");
    assert!(stderr.is_empty(), "{command:?} warned: {stderr}");
    output.stdout
}

/// What ffprobe answers about `path`.
pub(crate) fn probe(path: &Path, query: &str) -> String {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "warning"]).args(query.split_whitespace()).arg(path);
    String::from_utf8(run(&mut command)).unwrap()
}

fn decode(path: &Path, output: &[&str]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-xerror", "-nostdin", "-i"]).arg(path);
    run(command.args(output).arg("-"))
}

/// A digest of each picture that a decoder gets out of `path`.
pub(crate) fn frame_digests(path: &Path) -> Vec<String> {
    let list = decode(path, &["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5"]);
    let list = String::from_utf8(list).unwrap();
    let frames = list.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// The sound that a decoder gets out of `path`, as interleaved 16-bit samples.
pub(crate) fn decoded_pcm(path: &Path) -> Vec<u8> {
    decode(path, &["-map", "0:a:0", "-f", "s16le"])
}

/// Stereo Opus packets of 20 ms from an encoder that is not ours.
pub(crate) struct OggOpus {
    pub path: PathBuf,
    pub packets: Vec<Vec<u8>>,
    pub pre_skip: u16,
    /// Samples of sound at 48 kHz, after the pre-skip.
    pub samples: u64,
}

impl OggOpus {
    /// Encodes `samples` samples of `expression` (of FFmpeg's `aevalsrc`) on both channels.
    pub(crate) fn encode(folder: &Path, expression: &str, samples: u64) -> OggOpus {
        let path = folder.join("sound.opus");
        let source = format!("aevalsrc={expression}|{expression}:s=48000,atrim=end_sample={samples}");
        run(Command::new("ffmpeg")
            .args(["-v", "warning", "-nostdin", "-y", "-f", "lavfi", "-i", &source])
            .args(["-c:a", "libopus", "-b:a", "96k"])
            .arg(&path));
        let mut packets = ogg_packets(&std::fs::read(&path).unwrap());
        // The first two are headers (RFC 7845 5); the pre-skip is at byte 10 of OpusHead.
        let pre_skip = u16::from_le_bytes([packets[0][10], packets[0][11]]);
        packets.drain(..2);
        OggOpus { path, packets, pre_skip, samples }
    }
}

/// The packets of an Ogg file with one stream (RFC 3533 6).
fn ogg_packets(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while !file.is_empty() {
        assert_eq!(&file[..4], b"OggS");
        let count = usize::from(file[26]);
        let (lengths, mut body) = file[27..].split_at(count);
        for &length in lengths {
            let (part, rest) = body.split_at(length.into());
            packet.extend_from_slice(part);
            body = rest;
            // A full 255 says that the packet goes on.
            if length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        file = body;
    }
    packets
}
