//! Sound is encoded in windows: an edit costs those around it, and nobody hears where they meet.

mod common;

use std::path::Path;

use common::{BUNNY_30S, Project, TINY_RUNG, clip, ffmpeg, join_track, ladder, segments};

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
