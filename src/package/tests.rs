//! A whole package, from temporal units to the output folder, as a player sees it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::test_tools::{OggOpus, Unit, frame_digests, probe, segment_bytes};
use super::*;
use crate::media::Rational;
use crate::media::av1::{sequence_header_obu, test_stream, to_sample};
use crate::stream::{AudioCodec, Contract, Language, Role as TrackRole, Track};

const TARGET: u64 = 2;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

/// Adds the files of one track, by path from the top. Returns what the entry must say of it.
fn package(
    name: &str,
    track: Track,
    config: &[u8],
    segments: &[Vec<Unit<'_>>],
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Rendition {
    files.insert(format!("{name}/init.mp4"), init_segment(&track, config, 0).unwrap());
    let (mut listed, mut sizes) = (Vec::new(), Vec::new());
    let mut base_decode_time = 0;
    for (n, units) in (1..).zip(segments) {
        let bytes = segment_bytes(n, base_decode_time, track.roll.is_some(), units);
        let duration = units.iter().map(|unit| u64::from(unit.duration)).sum();
        base_decode_time += duration;
        sizes.push(SegmentSize { bytes: bytes.len() as u64, duration });
        let file = format!("{n}-{}.m4s", &blake3::hash(&bytes).to_hex()[..8]);
        listed.push(PlaylistSegment { path: path(&file), duration });
        files.insert(format!("{name}/{file}"), bytes);
    }
    let playlist = media_playlist(&MediaPlaylist {
        timescale: track.timescale,
        target_duration: TARGET,
        init: &path("init.mp4"),
        segments: &listed,
    });
    files.insert(format!("{name}/index.m3u8"), playlist.into_bytes());
    Rendition {
        playlist: path(&format!("{name}/index.m3u8")),
        name: name.to_owned(),
        bandwidth: Bandwidth::measure(&sizes, track.timescale, TARGET),
        track,
    }
}

/// Two rungs of 60 frames at 24000/1001 frames a second and a stereo sound as long.
fn example(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut renditions = Vec::new();
    for (name, encoder) in [("low", "libsvtav1"), ("high", "libaom-av1")] {
        let units = test_stream::encode(encoder, "-g 20", 60, "yuv420p");
        let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
        let data: Vec<_> = units.iter().map(|unit| to_sample(&unit.data).unwrap()).collect();
        let samples: Vec<_> = units
            .iter()
            .zip(&data)
            .map(|(unit, data)| Unit { data, duration: 1001, sync: unit.key })
            .collect();
        let segments: Vec<_> = samples.chunks(20).map(<[Unit<'_>]>::to_vec).collect();
        let frame_rate = Rational { num: 24_000, den: 1001 };
        let track = Contract::of(header).unwrap().track(24_000, frame_rate);
        renditions.push(package(name, track, header, &segments, &mut files));
    }
    let opus = OggOpus::encode(folder, "0.2*sin(2*PI*440*t)", 60 * 2002);
    let mut track = AudioCodec::Opus.track(2, 48_000, Language::new("eng"), TrackRole::Main);
    track.pre_skip = opus.pre_skip.into();
    let packets = opus.packets.iter();
    let samples: Vec<_> = packets.map(|data| Unit { data, duration: 960, sync: true }).collect();
    let segments: Vec<_> = samples.chunks(42).map(<[Unit<'_>]>::to_vec).collect();
    renditions.push(package("sound", track, &[], &segments, &mut files));
    let master = multivariant_playlist(&renditions).unwrap();
    files.insert("master.m3u8".to_owned(), master.into_bytes());
    files
}

/// Files that are in memory.
struct InMemory<'a>(&'a BTreeMap<String, Vec<u8>>);

impl Contents for InMemory<'_> {
    fn announce(&mut self, _: &[&PublishFile]) -> io::Result<()> {
        Ok(())
    }

    fn composition(&mut self, file: &PublishFile) -> io::Result<Composition> {
        Ok(Composition::inline(self.0[file.path.as_str()].clone()))
    }
}

impl Blobs for InMemory<'_> {
    fn open(&mut self, _: &ContentId) -> io::Result<Option<Box<dyn io::Read + '_>>> {
        Ok(None)
    }
}

fn publish_all(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> PublishReport {
    let list: Vec<_> = files
        .iter()
        .map(|(name, bytes)| PublishFile {
            path: path(name),
            size: bytes.len() as u64,
            digest: blake3::hash(bytes),
            role: match name.as_str() {
                "master.m3u8" => Role::Entry,
                name if name.ends_with(".m3u8") => Role::Playlist,
                _ => Role::Media,
            },
        })
        .collect();
    let list = FileList::new(list).unwrap();
    let report = publish(folder, &list, &mut InMemory(files)).unwrap();
    assert!(is_current(folder, list.digest()));
    report
}

#[test]
fn a_player_finds_all_of_a_published_package() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dist");
    let files = example(root.path());
    assert_eq!(publish_all(&folder, &files).written, files.len());
    let master = folder.join("master.m3u8");

    let streams = probe(
        &master,
        "-show_entries stream=codec_name,width,height,channels:stream_tags=variant_bitrate \
         -of csv=p=0",
    );
    let count = |start: &str| streams.lines().filter(|line| line.starts_with(start)).count();
    // Each of the two programs lists its pictures and the sound they share.
    assert_eq!((count("av1,320,180"), count("opus,2")), (4, 3), "{streams}");
    assert_eq!(frame_digests(&master).len(), 60);

    // The bandwidth is what the largest stretch of each playlist needs.
    let text = String::from_utf8(files["master.m3u8"].clone()).unwrap();
    let sizes = |name: &str| -> Vec<u64> {
        let media = files.iter().filter(|(path, _)| path.starts_with(name) && path.ends_with(".m4s"));
        media.map(|(_, bytes)| bytes.len() as u64).collect()
    };
    let average = |name| 8 * sizes(name).iter().sum::<u64>() * 24_000 / 60 / 1001;
    let stated: Vec<u64> = text
        .split("AVERAGE-BANDWIDTH=")
        .skip(1)
        .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
        .collect();
    for (stated, rung) in stated.into_iter().zip(["low/", "high/"]) {
        let measured = average(rung) + average("sound/");
        assert!(stated.abs_diff(measured) * 50 < measured, "{stated} stated, {measured} measured");
    }
}
