//! What tests ask of FFmpeg's programs: to make sound, and to say what they see in a package. Any
//! warning of theirs fails the test, and so does their absence.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Blobs, Composition, ContentId, Sample, Segment, segment};

/// Blobs in memory.
#[derive(Default)]
pub(crate) struct Memory(pub HashMap<ContentId, Vec<u8>>);

impl Memory {
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> ContentId {
        let blob = ContentId::of(&bytes);
        self.0.insert(blob, bytes);
        blob
    }
}

impl Blobs for Memory {
    fn open(&mut self, blob: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.0.get(blob).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>))
    }
}

/// A sample with its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub data: &'a [u8],
    pub duration: u32,
    pub sync: bool,
}

/// The bytes of a segment of these samples.
pub(crate) fn segment_bytes(
    sequence_number: u32,
    base_decode_time: u64,
    rolls: bool,
    units: &[Unit<'_>],
) -> Vec<u8> {
    let of =
        |unit: &Unit<'_>| Sample { size: unit.data.len() as u32, duration: unit.duration, sync: unit.sync };
    let samples: Vec<Sample> = units.iter().map(of).collect();
    let mut memory = Memory::default();
    let payload = memory.put(units.iter().flat_map(|unit| unit.data.iter().copied()).collect());
    let described = Segment { sequence_number, base_decode_time, rolls, samples: &samples };
    let file = Composition::of(segment(&described, payload).unwrap(), &mut memory).unwrap();
    let mut bytes = Vec::new();
    file.write_to(&mut memory, &mut bytes).unwrap();
    bytes
}

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
