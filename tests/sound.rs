//! Sound is encoded in windows: an edit costs those around it, and nobody hears where they meet.

mod common;

use std::path::Path;

use common::{BUNNY_30S, Project, TINY_RUNG, clip, ffmpeg, join_track, ladder, segments};
use rivet::testing::cache::{Cache, EntryKey, LocalCache};
use serde_json::Value;

const RATE: usize = 48_000;
/// Samples that a decoder drops at the start.
const PRE_SKIP: usize = 312;
const RENDITION: &str = "[[audio]]\nname = \"sound\"\nbitrate = \"96k\"\n";

/// A small film with this sound, uncompressed.
fn film(project: &Project, name: &str, sound: &[&str]) {
    let to = project.path(name);
    let mut arguments = vec!["-f", "lavfi", "-i", "testsrc2=s=64x36:r=25:d=18"];
    arguments.extend(sound);
    arguments.extend(["-t", "18", "-c:v", "ffv1", "-c:a", "pcm_s16le", "-ac", "2", "-ar", "48000"]);
    arguments.push(to.to_str().unwrap());
    ffmpeg(&arguments);
}

#[test]
fn a_changed_second_of_sound_costs_the_windows_around_it() {
    let project = Project::new();
    let bunny = clip(BUNNY_30S);
    let bunny = bunny.to_str().unwrap();
    film(&project, "a.mkv", &["-i", bunny, "-map", "0:v", "-map", "1:a"]);
    let quieter = "volume=0.5:enable='between(t,9,10)'";
    film(&project, "b.mkv", &["-i", bunny, "-map", "0:v", "-map", "1:a", "-af", quieter]);
    // A second more in the middle: what comes after it has only moved.
    let longer = "[1:a]aresample=48000,asplit=3[a][b][c];[a]atrim=0:9[x];[b]atrim=3:4[y];[c]atrim=9:19,asetpts=PTS-STARTPTS[z];\
                  [x][y][z]concat=n=3:v=0:a=1[s]";
    film(&project, "c.mkv", &["-i", bunny, "-filter_complex", longer, "-map", "0:v", "-map", "[s]"]);
    let build = |source: &str| {
        project.write("ladder.toml", ladder(source, &format!("{TINY_RUNG}{RENDITION}")));
        project.build()
    };
    let windows = build("a.mkv").ran("audio");
    assert!(windows >= 7, "eighteen seconds are many windows: {windows}");
    let changed = build("b.mkv");
    assert_eq!(changed.ran("encode"), 0);
    assert!((1..=4).contains(&changed.ran("audio")), "{}", changed.summary());
    let inserted = build("c.mkv");
    assert!((1..=5).contains(&inserted.ran("audio")), "{} of {windows}", inserted.ran("audio"));
}

/// Samples of the left channel, from -1 to 1.
fn samples(arguments: &[&str]) -> Vec<f64> {
    let mut all = vec!["-guess_layout_max", "0"];
    all.truncate(if arguments[1].ends_with("mkv") { 2 } else { 0 });
    all.extend(arguments);
    all.extend(["-vn", "-ac", "2", "-ar", "48000", "-f", "f32le", "-"]);
    let raw = ffmpeg(&all);
    raw.chunks_exact(8).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
}

/// How far the stream is from the sound that it was made of, sample by sample.
fn errors(project: &Project, source: &Path) -> Vec<f64> {
    let track = project.path("sound.mp4");
    join_track(&project.path("out/sound"), &track);
    let (before, after) =
        (samples(&["-i", source.to_str().unwrap()]), samples(&["-i", track.to_str().unwrap()]));
    // ffmpeg drops the pre-skip by itself.
    assert!(before.len().abs_diff(after.len()) < 2 * 960 + PRE_SKIP);
    before.iter().zip(&after).map(|(before, after)| after - before).collect()
}

/// Power within 20 ms of a place, and the largest step between two samples there, in dB.
fn around(errors: &[f64], place: usize) -> (f64, f64) {
    let near = &errors[place - 960..place + 960];
    let power = near.iter().map(|error| error * error).sum::<f64>() / near.len() as f64;
    let jump = near.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f64::max);
    (10.0 * (power + 1e-9).log10(), 20.0 * (jump + 3e-5).log10())
}

/// Judged by ffmpeg's own decoder, beside the same sound encoded in one go.
#[test]
fn windows_meet_without_a_click() {
    let tone = "sine=f=440:r=48000:d=20";
    let chord = "aevalsrc='0.2*sin(2*PI*220*t)+0.15*sin(2*PI*277*t)+0.1*sin(2*PI*(330+20*t)*t)':s=48000:d=20";
    let bunny = clip(BUNNY_30S);
    let bunny = bunny.to_str().unwrap();
    for (name, sound) in [
        ("a tone", vec!["-f", "lavfi", "-i", tone]),
        ("a chord and a sweep", vec!["-f", "lavfi", "-i", chord]),
        ("a film's sound", vec!["-i", bunny, "-map", "0:v", "-map", "1:a"]),
    ] {
        let project = Project::new();
        film(&project, "film.mkv", &sound);
        let source = project.path("film.mkv");
        let errors_with = |target: &str| {
            let segments = format!("[segments]\nmode = \"fixed\"\ntarget = \"{target}\"\n");
            project.write("ladder.toml", ladder("film.mkv", &format!("{segments}{TINY_RUNG}{RENDITION}")));
            let build = project.build();
            (errors(&project, &source), build.count("audio", "ran"))
        };
        let (whole, one) = errors_with("60s");
        let (windows, many) = errors_with("500ms");
        assert!(one == 1 && many >= 35, "{one} and {many} windows");
        let lengths = segments(&project.path("out/sound/playlist.m3u8"));
        let mut end = 0.0;
        let (mut more, mut count) = (0.0, 0.0);
        let largest = (1..whole.len() / 960 - 1).map(|n| around(&whole, n * 960).1).fold(f64::MIN, f64::max);
        for (_, seconds) in &lengths[..lengths.len() - 1] {
            end += seconds;
            // The first sound that a window's first packet tells of.
            let seam = (end * RATE as f64).round() as usize - PRE_SKIP;
            if seam + 960 >= windows.len().min(whole.len()) {
                break;
            }
            let ((here, step), (there, _)) = (around(&windows, seam), around(&whole, seam));
            assert!(here < there + 6.0, "{name}: at {seam} {here:.1} dB of error, in one go {there:.1}");
            assert!(
                step < largest + 3.0,
                "{name}: a click at {seam}: {step:.1} dB, in one go at most {largest:.1}"
            );
            more += here - there;
            count += 1.0;
        }
        assert!(count >= 33.0);
        assert!(more / count < 1.0, "{name}: {:.2} dB worse at seams on average", more / count);
        println!("{name}: {:+.2} dB at seams on average", more / count);
    }
}

fn explained(project: &Project, step: &str) -> Value {
    let told = project.rivet().args(["explain", "ladder.toml", step, "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    told[0].clone()
}

/// Samples of a floating-point decoder are not the same on every CPU.
#[test]
fn the_cpu_is_in_the_key_of_sound_that_depends_on_it() {
    for (codec, depends) in
        [("aac", false), ("ac3", false), ("flac", false), ("eac3", true), ("libvorbis", true)]
    {
        let project = Project::new();
        let to = project.path("film.mkv");
        let arguments =
            "-f lavfi -i testsrc2=s=64x36:r=25:d=1 -f lavfi -i sine=f=440:r=48000:d=1 -c:v ffv1 -ac 2";
        let arguments = arguments.split(' ').chain(["-c:a", codec, to.to_str().unwrap()]);
        ffmpeg(&arguments.collect::<Vec<_>>());
        project.write("ladder.toml", ladder("film.mkv", &format!("{TINY_RUNG}{RENDITION}")));
        project.build();
        let field = |step: &str, name: &str| {
            let told = explained(&project, step);
            let fields = told["fields"].as_array().unwrap();
            let field = fields.iter().find(|field| field["name"] == name).unwrap();
            field["now"].as_str().unwrap().to_owned()
        };
        let decoder = field("decode/audio/1", "decoder");
        assert_eq!(
            decoder.contains(&format!(" on {} (", std::env::consts::ARCH)),
            depends,
            "{codec}: {decoder}"
        );
        // So does libopus: its architecture tells enough.
        let encoder = field("audio/sound/1", "encoder");
        assert!(encoder.ends_with(&format!(" on {}", std::env::consts::ARCH)), "{encoder}");
    }
}

/// A window as it is filed: its first packet, its packets, its start, their durations, its identity.
type Window = (u64, u32, u64, Vec<(u32, u32)>, [u8; 32]);

/// As where the cache was filled by an FFmpeg of the same version that was built otherwise.
#[test]
fn windows_of_other_samples_are_not_believed() {
    let bunny = clip(BUNNY_30S);
    let write = |project: &Project, rates: [&str; 2]| {
        let [high, low] = rates.map(|rate| format!("[[audio]]\nname = \"{rate}\"\nbitrate = \"{rate}\"\n"));
        project.write("ladder.toml", ladder("film.mkv", &format!("{TINY_RUNG}{high}{low}")));
    };
    let project = Project::new();
    film(&project, "film.mkv", &["-i", bunny.to_str().unwrap(), "-map", "0:v", "-map", "1:a"]);
    write(&project, ["64k", "32k"]);
    project.build();
    write(&project, ["96k", "48k"]);
    let expected = {
        let fresh = Project::new();
        std::fs::copy(project.path("film.mkv"), fresh.path("film.mkv")).unwrap();
        write(&fresh, ["96k", "48k"]);
        fresh.build();
        fresh.output()
    };
    let cache = LocalCache::open(&project.path("cache/rivet")).unwrap();
    let key = EntryKey(explained(&project, "decode/audio/1")["key"].as_str().unwrap().parse().unwrap());
    let filed = cache.find_entry(&key).unwrap().unwrap();
    let windows: Vec<Window> =
        postcard::from_bytes(&cache.blob(&filed.result.blobs[0]).unwrap().unwrap()).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Vec<Window>);
    let changes: [Change<'_>; 5] = [
        &|windows| windows.first_mut().unwrap().4[0] ^= 1,
        &|windows| windows.last_mut().unwrap().4[31] ^= 1,
        // Longer than the sound.
        &|windows| windows.last_mut().unwrap().1 += 1,
        &|windows| windows.swap(0, 3),
        // Cut at another place.
        &|windows| {
            let (.., durations, _) = &windows[1];
            let longer =
                (windows[0].0, windows[0].1 + windows[1].1, windows[0].2, durations.clone(), [7; 32]);
            windows.splice(0..2, [longer]);
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = windows.clone();
        change(&mut other);
        let mut entry = filed.clone();
        entry.result.blobs = vec![cache.put_blob(&postcard::to_stdvec(&other).unwrap()).unwrap()];
        cache.put_entry(&key, &entry).unwrap();
        // Nothing that was encoded of it is there, so that it is analyzed again.
        let bitrates = [["96k", "48k"], ["97k", "49k"], ["98k", "50k"], ["99k", "51k"], ["100k", "52k"]];
        write(&project, bitrates[number]);
        let build = project.build();
        assert_eq!(build.ran("decode"), 1, "{number}: the windows are found again");
        assert!(build.stderr.contains("analyzing it again"), "{number}: {}", build.stderr);
        assert_eq!(cache.find_entry(&key).unwrap().unwrap().result, filed.result, "{number}");
        assert_eq!(project.build().ran_at_all(), 0, "{number}");
    }
    write(&project, ["96k", "48k"]);
    assert_eq!(project.build().ran("audio"), 0);
    assert_eq!(project.output(), expected);
}
