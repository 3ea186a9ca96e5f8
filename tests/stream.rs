//! What other programs see in the stream: every picture in its place, sound with it, and not a
//! word of complaint from any decoder.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{BUNNY_5S, FLOWER, FRIDAY, Project, ffmpeg, ffprobe, join_track, ladder, quietly};
use rivet::testing::cache::{Cache, EntryKey, LocalCache};
use rivet::testing::package::Composition;
use serde_json::Value;

/// Luma planes of a video's frames, in presentation order.
fn luma(arguments: &[&str], width: usize, height: usize) -> Vec<Vec<u8>> {
    let mut all = arguments.to_vec();
    all.extend(["-an", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    let bytes = ffmpeg(&all);
    assert_eq!(bytes.len() % (width * height), 0);
    bytes.chunks(width * height).map(<[u8]>::to_vec).collect()
}

fn difference(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum()
}

/// Every frame is the source's frame in that place: as like it as an encode can be, and more
/// like it than like its neighbours, where those differ at all.
fn same_frames(source: &[Vec<u8>], encoded: &[Vec<u8>]) {
    assert_eq!(source.len(), encoded.len(), "as many frames as the source");
    for (n, frame) in encoded.iter().enumerate() {
        let own = difference(frame, &source[n]);
        assert!(own < 6 * frame.len() as u64, "frame {n} differs by {} on average", own / frame.len() as u64);
        for other in [n.wrapping_sub(1), n + 1] {
            let Some(neighbour) = source.get(other) else {
                continue;
            };
            let apart = difference(neighbour, &source[n]);
            if apart > 2 * own {
                assert!(difference(frame, neighbour) > own, "frame {n} looks like frame {other}");
            }
        }
    }
}

/// Presentation times of a file's packets of one kind, in seconds.
fn times(file: &Path, stream: &str) -> Vec<f64> {
    let json = ffprobe(file, &["-select_streams", stream, "-show_entries", "packet=pts_time"]);
    let mut times: Vec<f64> = json["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["pts_time"].as_str().unwrap().parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn stream(file: &Path, which: &str) -> Value {
    let json = ffprobe(file, &["-select_streams", which, "-show_streams"]);
    json["streams"][0].clone()
}

/// Builds `source` on two rungs and holds each of them against it.
fn check(project: &Project, source: &str, bits: u32) {
    let rungs = format!(
        "[video]\ncrf = 12\nbit_depth = {bits}\n[[rung]]\nname = \"big\"\nheight = 90\n\
         [[rung]]\nname = \"small\"\nheight = 54\n"
    );
    project.write("ladder.toml", ladder(source, &rungs));
    project.build();
    let original = project.path(source);
    for rung in ["big", "small"] {
        let folder = project.path("out").join(rung);
        let file = project.path(&format!("{rung}.mp4"));
        join_track(&folder, &file);
        let seen = stream(&file, "v");
        assert_eq!(seen["codec_name"], "av1");
        assert_eq!(seen["sample_aspect_ratio"], "1:1");
        let number = |name: &str| usize::try_from(seen[name].as_u64().unwrap()).unwrap();
        let (width, height) = (number("width"), number("height"));
        let scale = format!("scale={width}:{height}:flags=bicubic+accurate_rnd+bitexact");
        let source = luma(&["-i", original.to_str().unwrap(), "-vf", &scale], width, height);
        let playlist = folder.join("playlist.m3u8");
        same_frames(&source, &luma(&["-i", playlist.to_str().unwrap()], width, height));

        let (there, here) = (times(&original, "v"), times(&file, "v"));
        assert_eq!(there.len(), here.len());
        for (n, (a, b)) in there.iter().zip(&here).enumerate() {
            let off = (a - there[0]) - b;
            assert!(off.abs() < 0.0006, "frame {n} is shown at {b}, {off} s off");
        }

        // dav1d is a decoder of other people, with a strict mode.
        let units = project.path(&format!("{rung}.obu"));
        ffmpeg(&["-i", file.to_str().unwrap(), "-c", "copy", "-f", "obu", units.to_str().unwrap()]);
        let decoded = project.path(&format!("{rung}.y4m"));
        quietly(
            "dav1d",
            ["-q", "--strict", "1", "-i", units.to_str().unwrap(), "-o", decoded.to_str().unwrap()],
        );
        let text = fs::read(&decoded).unwrap();
        let frames = text.windows(6).filter(|bytes| bytes == b"FRAME\n").count();
        assert_eq!(frames, source.len(), "dav1d sees every frame");
    }
}

#[test]
fn film_at_25_frames_a_second() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    check(&project, "clip.mp4", 8);
}

#[test]
fn film_at_30000_1001_in_10_bits() {
    let project = Project::new();
    project.copy_clip(FLOWER, "clip.mp4");
    check(&project, "clip.mp4", 10);
    let file = project.path("big.mp4");
    let seen = stream(&file, "v");
    assert_eq!((&seen["r_frame_rate"], &seen["pix_fmt"]), (&"30000/1001".into(), &"yuv420p10le".into()));
    assert!(common::sample_durations(&project.path("out/big")).iter().all(|&ticks| ticks == 1001));
    assert_eq!(seen["time_base"], "1/30000");
    let master = fs::read_to_string(project.path("out/master.m3u8")).unwrap();
    assert!(master.contains("FRAME-RATE=29.970"), "{master}");
}

/// Matroska rounds time stamps to milliseconds; 24000/1001 must come out exact all the same.
#[test]
fn film_rate_out_of_matroska_is_exact() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.mkv"));
    ffmpeg(&[
        "-i",
        from.to_str().unwrap(),
        "-an",
        "-vf",
        "scale=160:120,setpts=N/(24000/1001)/TB",
        "-r",
        "24000/1001",
        "-t",
        "4",
        "-c:v",
        "libx264",
        "-x264-params",
        "open-gop=1:keyint=20",
        to.to_str().unwrap(),
    ]);
    check(&project, "clip.mkv", 8);
    let seen = stream(&project.path("big.mp4"), "v");
    assert_eq!((&seen["r_frame_rate"], &seen["time_base"]), (&"24000/1001".into(), &"1/24000".into()));
}

/// A variable frame rate keeps every picture's own time.
#[test]
fn variable_frame_rate_keeps_its_times() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.mp4"));
    ffmpeg(&[
        "-i",
        from.to_str().unwrap(),
        "-an",
        "-vf",
        "scale=160:120,select='not(between(mod(n,7),2,3))'",
        "-fps_mode",
        "vfr",
        "-t",
        "4",
        "-c:v",
        "libx264",
        "-bf",
        "2",
        to.to_str().unwrap(),
    ]);
    check(&project, "clip.mp4", 8);
}

/// Groups of pictures whose leading frames need the group before, as in broadcast streams.
#[test]
fn open_groups_of_pictures_lose_no_frame() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.ts"));
    ffmpeg(&[
        "-i",
        from.to_str().unwrap(),
        "-an",
        "-vf",
        "scale=160:120",
        "-c:v",
        "mpeg2video",
        "-bf",
        "2",
        "-g",
        "12",
        "-q:v",
        "2",
        to.to_str().unwrap(),
    ]);
    check(&project, "clip.ts", 8);
    let build = project.build_with(&["--cache-dir", "another"]);
    assert!(build.ran("decode") > 10, "it was decoded in spans");
}

/// Such a stream is marked as if it could be entered at every second, where a decoder shows
/// nothing until the picture has been refreshed: no frame may be swallowed.
#[test]
fn intra_refresh_loses_no_frame() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.mkv"));
    #[rustfmt::skip]
    ffmpeg(&[
        "-i", from.to_str().unwrap(), "-an", "-vf", "scale=160:120", "-t", "4", "-c:v", "libx264", "-g", "30",
        "-x264-params", "intra-refresh=1:ref=1:b-pyramid=none", to.to_str().unwrap(),
    ]);
    check(&project, "clip.mkv", 8);
    assert_eq!(project.build().ran_at_all(), 0);
}

/// Old containers have no presentation time stamps.
#[test]
fn frames_without_presentation_stamps_keep_their_order() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.avi"));
    #[rustfmt::skip]
    ffmpeg(&[
        "-i", from.to_str().unwrap(), "-an", "-vf", "scale=160:120", "-t", "3", "-c:v", "libx264", "-bf", "2",
        to.to_str().unwrap(),
    ]);
    project
        .write("ladder.toml", ladder("clip.avi", "[video]\ncrf = 12\n[[rung]]\nname = \"r\"\nheight = 90\n"));
    project.build();
    let scale = "scale=120:90:flags=bicubic+accurate_rnd+bitexact";
    let source = luma(&["-i", to.to_str().unwrap(), "-vf", scale], 120, 90);
    let playlist = project.path("out/r/playlist.m3u8");
    same_frames(&source, &luma(&["-i", playlist.to_str().unwrap()], 120, 90));
    let total: f64 = common::segments(&playlist).iter().map(|(_, seconds)| seconds).sum();
    assert!((total - 3.0).abs() < 0.001, "{total} s");
}

#[test]
fn colour_is_carried_through() {
    let project = Project::new();
    let (from, to) = (common::clip(FRIDAY), project.path("clip.mkv"));
    ffmpeg(&[
        "-i",
        from.to_str().unwrap(),
        "-an",
        "-vf",
        "scale=160:120,format=yuv420p10le",
        "-t",
        "1",
        "-c:v",
        "libx265",
        "-x265-params",
        "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:chromaloc=2",
        to.to_str().unwrap(),
    ]);
    project.write("ladder.toml", ladder("clip.mkv", common::TINY_RUNG));
    project.build();
    join_track(&project.path("out/tiny"), &project.path("tiny.mp4"));
    let seen = stream(&project.path("tiny.mp4"), "v");
    for (name, expected) in [
        ("pix_fmt", "yuv420p10le"),
        ("color_range", "tv"),
        ("color_primaries", "bt2020"),
        ("color_transfer", "smpte2084"),
        ("color_space", "bt2020nc"),
    ] {
        assert_eq!(seen[name], expected, "{name}");
    }
    let master = fs::read_to_string(project.path("out/master.m3u8")).unwrap();
    assert!(master.contains("VIDEO-RANGE=PQ") && master.contains(".10.0.112.09.16.09.0"), "{master}");
}

/// A phone's film lies on its side and says so; the stream stands upright.
#[test]
fn a_turned_film_stands_upright() {
    let project = Project::new();
    let (flat, turned) = (project.path("flat.mp4"), project.path("clip.mp4"));
    let from = common::clip(FRIDAY);
    ffmpeg(&[
        "-i",
        from.to_str().unwrap(),
        "-an",
        "-vf",
        "scale=160:120",
        "-t",
        "1",
        "-c:v",
        "libx264",
        flat.to_str().unwrap(),
    ]);
    ffmpeg(&[
        "-i",
        flat.to_str().unwrap(),
        "-c",
        "copy",
        "-metadata:s:v",
        "rotate=90",
        turned.to_str().unwrap(),
    ]);
    project.write("ladder.toml", ladder("clip.mp4", "[[rung]]\nname = \"r\"\nheight = 160\ncrf = 8\n"));
    project.build();
    // ffmpeg turns the source by itself; the stream is to look just so.
    let source = luma(&["-i", turned.to_str().unwrap(), "-vf", "scale=120:160"], 120, 160);
    let playlist = project.path("out/r/playlist.m3u8");
    same_frames(&source, &luma(&["-i", playlist.to_str().unwrap()], 120, 160));
}

/// When sound and picture of a film meet: a flash and a tone begin together every second.
struct Meetings {
    flashes: Vec<f64>,
    tones: Vec<f64>,
}

impl Meetings {
    /// Looks into a picture file and a sound file.
    fn of(video: &Path, audio: &Path) -> Meetings {
        let (width, height) = (64, 36);
        let frames = luma(&["-i", video.to_str().unwrap(), "-vf", "scale=64:36"], width, height);
        let at = times(video, "v");
        assert_eq!(frames.len(), at.len());
        let bright: Vec<bool> =
            frames.iter().map(|f| difference(f, &vec![0; f.len()]) > 120 * f.len() as u64).collect();
        let flashes =
            (0..frames.len()).filter(|&n| bright[n] && (n == 0 || !bright[n - 1])).map(|n| at[n]).collect();

        // Filled with silence up to its first time stamp, so that sample n is at n/48000.
        let raw = ffmpeg(&[
            "-i",
            audio.to_str().unwrap(),
            "-vn",
            "-af",
            "aresample=48000:first_pts=0",
            "-ac",
            "1",
            "-f",
            "s16le",
            "-",
        ]);
        let samples: Vec<i16> = raw.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        let mut tones = Vec::new();
        let mut quiet_since = 0;
        for (n, sample) in samples.iter().enumerate() {
            if sample.unsigned_abs() > 3000 {
                // The first sound after a fifth of a second of silence.
                if n - quiet_since > 9600 {
                    tones.push(n as f64 / 48_000.0);
                }
                quiet_since = n;
            }
        }
        Meetings { flashes, tones }
    }
}

#[test]
fn sound_and_picture_stay_together() {
    // A film of 12 s whose sound starts late, at once, or before the picture, by so many seconds.
    for (name, delay, codec, container) in [
        ("together", "0", "aac", "mp4"),
        ("late", "0.35", "aac", "mp4"),
        ("early", "-0.21", "mp2", "mkv"),
        ("drifting", "0.013", "libopus", "mkv"),
    ] {
        let project = Project::new();
        let source = format!("clip.{container}");
        let to = project.path(&source);
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "color=black:s=128x72:r=30000/1001:d=12,drawbox=t=fill:c=white:enable='lt(mod(t,1),0.1)'",
            "-itsoffset",
            delay,
            "-f",
            "lavfi",
            "-i",
            "aevalsrc='0.6*sin(2*PI*880*t)*lt(mod(t,1),0.1)':s=44100:d=12",
            "-c:v",
            "libx264",
            "-g",
            "24",
            "-c:a",
            codec,
            "-b:a",
            "128k",
            to.to_str().unwrap(),
        ]);
        let spec = format!("{}[[audio]]\nname = \"sound\"\n", common::TINY_RUNG);
        project.write("ladder.toml", ladder(&source, &spec));
        project.build();
        let (video, audio) = (project.path("v.mp4"), project.path("a.mp4"));
        join_track(&project.path("out/tiny"), &video);
        join_track(&project.path("out/sound"), &audio);
        let (there, here) = (Meetings::of(&to, &to), Meetings::of(&video, &audio));
        assert!(there.flashes.len() == 12 && there.tones.len() >= 11, "{name}: the source has its marks");
        assert_eq!(there.flashes.len(), here.flashes.len(), "{name}");
        // The last marks: the first may have begun before the picture and been cut.
        for back in 1..=11 {
            let last = |marks: &[f64]| marks[marks.len() - back];
            let before = last(&there.tones) - last(&there.flashes);
            let after = last(&here.tones) - last(&here.flashes);
            assert!(
                (before - after).abs() < 0.02,
                "{name}: {before} s apart in the source, {after} s here ({back} back)"
            );
        }
    }
}

#[test]
fn sound_lasts_as_long_as_the_source() {
    let project = Project::new();
    project.copy_clip(FLOWER, "clip.mp4");
    project.write(
        "ladder.toml",
        ladder("clip.mp4", &format!("{}[[audio]]\nname = \"sound\"\n", common::TINY_RUNG)),
    );
    project.build();
    let file = project.path("a.mp4");
    join_track(&project.path("out/sound"), &file);
    let decoded = |path: &Path| {
        ffmpeg(&["-i", path.to_str().unwrap(), "-vn", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"]).len()
            as i64
            / 2
    };
    let there = decoded(&project.path("clip.mp4"));
    // The container tells to the sample how long it lasts; ffmpeg plays the last packet whole.
    let here = common::sample_durations(&project.path("out/sound"))
        .iter()
        .map(|&ticks| i64::from(ticks))
        .sum::<i64>()
        - 312;
    assert!((there - here).abs() <= 48, "{there} samples in the source, {here} in the stream");
    assert!((there - decoded(&file)).abs() < 960);
    let seen = stream(&file, "a");
    assert_eq!((&seen["codec_name"], &seen["channels"]), (&"opus".into(), &2.into()));
    // The pre-skip lies before the start; what is heard begins at 0.
    assert_eq!(seen["start_pts"], -312);
}

/// Bytes of all files under a folder, by name.
fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    common::files_under(folder).into_iter().map(|(name, bytes)| (name, bytes.len() as u64)).collect()
}

/// Two rungs and audio of a clip, of which every encode is some kilobytes.
fn two_rungs(project: &Project) {
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let rungs = "[[rung]]\nname = \"big\"\nheight = 240\n[[rung]]\nname = \"small\"\nheight = 180\n\
                 [[audio]]\nname = \"sound\"\n";
    project.write("ladder.toml", ladder("clip.mp4", rungs));
}

/// What is only rearranged is not stored: the cache holds each encode once, and no segment.
#[test]
fn the_cache_holds_the_media_once() {
    let project = Project::new();
    two_rungs(&project);
    project.build();
    let published = project.output();
    let media: u64 = sizes(&project.path("out"))
        .iter()
        .filter(|(name, _)| name.ends_with(".m4s") || name.ends_with(".mp4"))
        .map(|(_, size)| size)
        .sum();
    let blobs = sizes(&project.path("cache/rivet/v3/blobs"));
    let cached: u64 = blobs.values().sum();
    assert!(10 * cached <= 11 * media, "{cached} bytes in the cache for {media} of media");
    for (name, digest) in published.iter().filter(|(name, _)| name.ends_with(".m4s")) {
        assert!(blobs.keys().all(|blob| !blob.ends_with(digest)), "{name} is in the cache as a whole");
    }

    // What is in no cache any more is encoded again, and comes to the same files.
    let largest = blobs.iter().max_by_key(|(_, size)| **size).unwrap().0;
    fs::remove_file(project.path("cache/rivet/v3/blobs").join(largest)).unwrap();
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert_eq!(build.ran("encode") + build.ran("audio"), 1, "{}", build.summary());
    assert_eq!(project.output(), published);
}

/// A pack of segments that says of two of them that each is made of the other's encode: nothing wrong is
/// published, and the pack is made again.
#[test]
fn segments_that_are_made_of_something_else_are_not_published() {
    let project = Project::new();
    two_rungs(&project);
    project.build();
    let published = project.output();
    let explained =
        project.rivet().args(["explain", "ladder.toml", "small/pack/1", "--json"]).output().unwrap();
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let key = EntryKey(explained[0]["key"].as_str().unwrap().parse().unwrap());
    let cache = LocalCache::open(&project.path("cache/rivet")).unwrap();
    let mut entry = cache.find_entry(&key).unwrap().unwrap();
    let made_of = cache.blob(&entry.result.blobs[1]).unwrap().unwrap();
    let mut made_of: Vec<Composition> = postcard::from_bytes(&made_of).unwrap();
    let parts = made_of[0].parts.clone();
    made_of[0].parts = std::mem::replace(&mut made_of[1].parts, parts);
    entry.result.blobs[1] = cache.put_blob(&postcard::to_stdvec(&made_of).unwrap()).unwrap();
    cache.put_entry(&key, &entry).unwrap();
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert_eq!((build.ran("encode"), build.ran("pack")), (0, 1), "{}", build.summary());
    assert_eq!(project.output(), published);
}

/// An output folder comes back from a remote by what its files are made of, each part of it once.
#[cfg(feature = "stores")]
#[test]
fn an_output_folder_is_restored_from_encodes() {
    let project = Project::new();
    two_rungs(&project);
    let remote = project.path("remote");
    fs::create_dir(&remote).unwrap();
    let url = format!("fs://{}", remote.display());
    let build = |arguments: &[&str]| {
        project.build_with(&[&["--insecure-unsigned", "--remote-cache", &url], arguments].concat())
    };
    let first = build(&[]);
    let published = project.output();
    fs::remove_dir_all(project.path("out")).unwrap();
    fs::remove_dir_all(project.path("cache")).unwrap();
    let restored = build(&[]);
    assert_eq!((restored.ran("encode"), restored.ran("audio"), restored.ran("mux")), (0, 0, 0));
    assert_eq!(project.output(), published);

    let stored = sizes(&remote.join("v2/blobs"));
    for digest in published.values() {
        assert!(stored.keys().all(|blob| !blob.ends_with(digest)), "a published file is stored as a whole");
    }
    let (encodes, windows) = (first.ran("encode"), first.ran("audio"));
    let report = &restored.summary()["remote"];
    let (blobs, bytes) =
        (report["fetched_blobs"].as_u64().unwrap(), report["fetched_bytes"].as_u64().unwrap());
    let media: u64 = sizes(&project.path("out"))
        .iter()
        .filter(|(name, _)| name.ends_with(".m4s"))
        .map(|(_, size)| size)
        .sum();
    // Besides the encodes: the index, the spans' list, the chunks, the windows, and two blobs for each row of
    // segments.
    assert!((encodes + windows..=encodes + windows + 12).contains(&blobs), "{report}");
    assert!(10 * bytes <= 11 * media, "{bytes} bytes came for {media} of media: {report}");
}
