//! What a client must be able to rely on in a playlist. That players read them is tested with the
//! whole package, in `package/tests.rs`.

use proptest::prelude::*;

use super::*;
use crate::media::{FrameFormat, Rotation};
use crate::stream::{AudioCodec, Contract, Language};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn playlist_of(timescale: u32, durations: &[u64]) -> String {
    let segments: Vec<_> = durations
        .iter()
        .enumerate()
        .map(|(n, &duration)| PlaylistSegment { path: path(&format!("{n}.m4s")), duration })
        .collect();
    media_playlist(&MediaPlaylist {
        timescale,
        target_duration: target_duration(timescale, durations.iter().copied()),
        init: &path("init.mp4"),
        segments: &segments,
    })
}

/// The `EXTINF` durations of a playlist, in microseconds.
fn extinf(playlist: &str) -> Vec<u64> {
    let values = playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    values
        .map(|value| {
            let (seconds, micros) = value.trim_end_matches(',').split_once('.').unwrap();
            assert_eq!(micros.len(), 6);
            seconds.parse::<u64>().unwrap() * 1_000_000 + micros.parse::<u64>().unwrap()
        })
        .collect()
}

const SDR: FrameFormat = FrameFormat {
    width: 1280,
    height: 720,
    bit_depth: 8,
    rotation: Rotation::None,
    colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 0 },
};

fn rung(name: &str, picture: &FrameFormat, frame_rate: (u64, u64)) -> Rendition {
    let frame_rate = Rational { num: frame_rate.0, den: frame_rate.1 };
    Rendition {
        playlist: path(&format!("{name}/index.m3u8")),
        name: name.to_owned(),
        track: Contract::new(picture, frame_rate).unwrap().track(24_000, frame_rate),
        bandwidth: Bandwidth { peak: 3_000_000, average: 2_000_000 },
    }
}

fn variant(name: &str) -> Rendition {
    rung(name, &SDR, (24_000, 1001))
}

fn audio(name: &str, language: Option<&str>, channels: u8) -> Rendition {
    let language = language.and_then(Language::new);
    Rendition {
        playlist: path(&format!("audio/{name}.m3u8")),
        name: name.to_owned(),
        track: AudioCodec::Opus.track(channels, 48_000, language, Role::Alternate),
        bandwidth: Bandwidth { peak: 140_000, average: 130_000 },
    }
}

/// The same as what a player takes unless told otherwise.
fn taken_first(mut rendition: Rendition) -> Rendition {
    rendition.track.role = Role::Main;
    rendition
}

#[test]
fn a_media_playlist_reads_as_rfc_8216_wants_it() {
    assert_eq!(
        playlist_of(24_000, &[48_048, 48_048, 12_012]),
        "#EXTM3U\n\
         #EXT-X-VERSION:7\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXTINF:2.002000,\n\
         0.m4s\n\
         #EXTINF:2.002000,\n\
         1.m4s\n\
         #EXTINF:0.500500,\n\
         2.m4s\n\
         #EXT-X-ENDLIST\n"
    );
}

#[test]
fn the_target_duration_is_rounded_as_a_client_rounds() {
    assert_eq!(target_duration(1000, [2499]), 2);
    assert_eq!(target_duration(1000, [2500]), 3);
    // 2.4999996 s is written as 2.500000, which rounds to 3.
    assert_eq!(target_duration(10_000_000, [24_999_996]), 3);
    assert_eq!(target_duration(1000, [100]), 1);
    assert_eq!(target_duration(1000, []), 1);
    // A playlist never names less than its segments need, nor less than it is told.
    let text = |target_duration| {
        let segments = [PlaylistSegment { path: path("0.m4s"), duration: 3000 }];
        let init = path("init.mp4");
        media_playlist(&MediaPlaylist { timescale: 1000, target_duration, init: &init, segments: &segments })
    };
    assert!(text(1).contains("#EXT-X-TARGETDURATION:3\n"));
    assert!(text(5).contains("#EXT-X-TARGETDURATION:5\n"));
}

#[test]
fn a_multivariant_playlist_names_all_that_players_need() {
    let pq = Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false, chroma_position: 2 };
    let hdr = FrameFormat { width: 1920, height: 1080, bit_depth: 10, colour: pq, ..SDR };
    let text = multivariant_playlist(&[
        variant("360p"),
        rung("hdr", &hdr, (60, 1)),
        taken_first(audio("Main", Some("eng"), 2)),
        Rendition {
            bandwidth: Bandwidth { peak: 500_000, average: 90_000 },
            ..audio("Surround", Some("en"), 6)
        },
        audio("Deutsch", Some("de"), 2),
    ]);
    assert_eq!(
        text.unwrap(),
        "#EXTM3U\n\
         #EXT-X-VERSION:7\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Main\",LANGUAGE=\"en\",DEFAULT=YES,\
         AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/Main.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Surround\",LANGUAGE=\"en\",DEFAULT=NO,\
         AUTOSELECT=NO,CHANNELS=\"6\",URI=\"audio/Surround.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Deutsch\",LANGUAGE=\"de\",DEFAULT=NO,\
         AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/Deutsch.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=3500000,AVERAGE-BANDWIDTH=2130000,\
         CODECS=\"av01.0.05M.08,opus\",RESOLUTION=1280x720,FRAME-RATE=23.976,VIDEO-RANGE=SDR,\
         AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
         360p/index.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=3500000,AVERAGE-BANDWIDTH=2130000,\
         CODECS=\"av01.0.09M.10.0.112.09.16.09.0,opus\",RESOLUTION=1920x1080,FRAME-RATE=60.000,\
         VIDEO-RANGE=PQ,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
         hdr/index.m3u8\n"
    );
}

#[test]
fn a_silent_film_has_no_audio_group() {
    let text = multivariant_playlist(&[variant("720p")]).unwrap();
    assert!(!text.contains("AUDIO") && text.contains("CODECS=\"av01.0.05M.08\""));
}

#[test]
fn names_that_cannot_be_written_or_told_apart_are_refused() {
    let same = [variant("720p"), audio("Main", None, 2), audio("Main", Some("de"), 2)];
    let same = multivariant_playlist(&same);
    assert_eq!(same, Err(HlsError::DuplicateName("Main".to_owned())));
    for name in ["a\"b", "a\nb", "a\r#EXT-X-ENDLIST", "\0", "a\u{85}b"] {
        let named = Rendition { name: name.to_owned(), ..audio("x", None, 2) };
        let text = multivariant_playlist(&[variant("720p"), named]);
        assert_eq!(text, Err(HlsError::Unquotable(name.to_owned())));
    }
}

#[test]
fn frame_rates_have_three_decimals() {
    let rate = |num, den| frame_rate(Rational { num, den });
    assert_eq!(rate(24_000, 1001), "23.976");
    assert_eq!(rate(30_000, 1001), "29.970");
    assert_eq!(rate(25, 1), "25.000");
    assert_eq!(rate(19_999, 20_000), "1.000");
    assert_eq!(rate(u64::MAX, u64::MAX), "1.000");
}

proptest! {
    /// RFC 8216 4.3.3.1: no EXTINF rounds above the target duration. And their sum stays within a
    /// microsecond of the truth, which a sum of rounded durations would not.
    #[test]
    fn durations_do_not_drift(
        durations in proptest::collection::vec(1u64..20_000_000, 1..300),
        timescale in prop_oneof![Just(24_000u32), Just(30_000), Just(48_000), 1u32..10_000_000],
    ) {
        let text = playlist_of(timescale, &durations);
        let written = extinf(&text);
        prop_assert_eq!(written.len(), durations.len());
        let target: u64 = text.lines()
            .find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:")).unwrap().parse().unwrap();
        prop_assert!(written.iter().all(|micros| (micros + 500_000) / 1_000_000 <= target));
        prop_assert!(target == 1 || written.iter().any(|m| (m + 500_000) / 1_000_000 == target));
        let (mut ticks, mut micros) = (0u128, 0u128);
        for (duration, written) in durations.iter().zip(&written) {
            ticks += u128::from(*duration);
            micros += u128::from(*written);
            let exact = ticks * 1_000_000;
            let off = (micros * u128::from(timescale)).abs_diff(exact);
            prop_assert!(2 * off <= u128::from(timescale));
        }
    }

    /// Whatever the names, each tag stays one line, its quotes paired.
    #[test]
    fn nothing_is_injected(name in "\\PC{0,20}|[\"\n\r,=#a]{0,8}", file in "[^/\0]{1,12}") {
        let Ok(file) = RelPath::new(file) else { return Ok(()) };
        let rendition = Rendition { name, playlist: file.clone(), ..audio("x", None, 2) };
        let rung = Rendition { playlist: file.clone(), ..variant("x") };
        if let Ok(text) = multivariant_playlist(&[rung, rendition]) {
            let lines: Vec<_> = text.lines().collect();
            prop_assert_eq!(lines.len(), 6);
            prop_assert!(lines[3].starts_with("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\""));
            prop_assert!(lines.iter().all(|line| line.matches('"').count() % 2 == 0));
            prop_assert!(lines[5].is_ascii() && !lines[5].starts_with('#'));
        }
        let segments = [PlaylistSegment { path: file.clone(), duration: 1 }];
        let text = media_playlist(&MediaPlaylist {
            timescale: 1, target_duration: 1, init: &file, segments: &segments,
        });
        prop_assert_eq!(text.lines().count(), 10);
    }
}
