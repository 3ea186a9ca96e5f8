//! A whole package, from temporal units to the output folder, as a player sees it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::test_tools::{OggOpus, frame_digests, probe};
use super::*;
use crate::media::Rational;
use crate::media::av1::{SequenceHeader, sequence_header_obu, test_stream, to_sample};

/// The files of one track, by path from the top, and what the entry must say of it.
struct Track {
    playlist: RelPath,
    files: BTreeMap<String, Vec<u8>>,
    sizes: Vec<SegmentSize>,
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn track(
    name: &str,
    timescale: u32,
    target_duration: u64,
    init: Vec<u8>,
    segments: &[Vec<Sample<'_>>],
    kind: TrackKind,
) -> Track {
    let mut files = BTreeMap::from([(format!("{name}/init.mp4"), init)]);
    let (mut listed, mut sizes) = (Vec::new(), Vec::new());
    let mut base_decode_time = 0;
    for (n, samples) in (1..).zip(segments) {
        let segment = Segment { sequence_number: n, base_decode_time, kind, samples };
        let bytes = super::segment(&segment).unwrap();
        let duration = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        base_decode_time += duration;
        sizes.push(SegmentSize { bytes: bytes.len() as u64, duration });
        let file = format!("{n}-{}.m4s", &blake3::hash(&bytes).to_hex()[..8]);
        listed.push(PlaylistSegment { path: path(&file), duration });
        files.insert(format!("{name}/{file}"), bytes);
    }
    let playlist = media_playlist(&MediaPlaylist {
        timescale,
        target_duration,
        init: &path("init.mp4"),
        segments: &listed,
    });
    files.insert(format!("{name}/index.m3u8"), playlist.into_bytes());
    Track { playlist: path(&format!("{name}/index.m3u8")), files, sizes }
}

/// Two rungs of 60 frames at 24000/1001 frames a second and a stereo sound as long.
fn example(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    const TARGET: u64 = 2;
    let mut files = BTreeMap::new();
    let mut variants = Vec::new();
    for (name, encoder) in [("low", "libsvtav1"), ("high", "libaom-av1")] {
        let units = test_stream::encode(encoder, "-g 20", 60, "yuv420p");
        let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
        let track_header = VideoTrack { timescale: 24_000, sequence_header_obu: header };
        let init = video_init(&track_header).unwrap();
        let data: Vec<_> = units.iter().map(|unit| to_sample(&unit.data).unwrap()).collect();
        let samples: Vec<_> = units
            .iter()
            .zip(&data)
            .map(|(unit, data)| Sample { data, duration: 1001, sync: unit.key })
            .collect();
        let segments: Vec<_> = samples.chunks(20).map(<[Sample<'_>]>::to_vec).collect();
        let rung = track(name, 24_000, TARGET, init, &segments, TrackKind::Video);
        variants.push(Variant {
            playlist: rung.playlist,
            codecs: SequenceHeader::parse(header).unwrap().codecs(),
            bandwidth: Bandwidth::measure(&rung.sizes, 24_000, TARGET),
            width: 320,
            height: 180,
            frame_rate: Rational { num: 24_000, den: 1001 },
            video_range: VideoRange::Sdr,
        });
        files.extend(rung.files);
    }
    let opus = OggOpus::encode(folder, "0.2*sin(2*PI*440*t)", 60 * 2002);
    let language = Language::new("eng");
    let init = audio_init(&AudioTrack {
        channels: 2,
        pre_skip: opus.pre_skip,
        input_sample_rate: 48_000,
        media_time: opus.pre_skip.into(),
        packet_duration: 960,
        language: language.as_ref(),
    });
    let packets = opus.packets.iter();
    let samples: Vec<_> = packets.map(|data| Sample { data, duration: 960, sync: true }).collect();
    let segments: Vec<_> = samples.chunks(42).map(<[Sample<'_>]>::to_vec).collect();
    let sound = track("sound", OPUS_TIMESCALE, TARGET, init.unwrap(), &segments, TrackKind::Audio);
    let audio = AudioRendition {
        playlist: sound.playlist,
        name: "Main".to_owned(),
        language,
        channels: 2,
        codecs: OPUS_CODECS.to_owned(),
        bandwidth: Bandwidth::measure(&sound.sizes, OPUS_TIMESCALE, TARGET),
    };
    files.extend(sound.files);
    let master = MultivariantPlaylist { variants: &variants, audio: &[audio] };
    let master = multivariant_playlist(&master).unwrap();
    files.insert("master.m3u8".to_owned(), master.into_bytes());
    files
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
    let open = |file: &PublishFile| -> io::Result<Content<'_>> {
        Ok(Content::Stream(Box::new(&files[file.path.as_str()][..])))
    };
    let report = publish(folder, &list, &open).unwrap();
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
