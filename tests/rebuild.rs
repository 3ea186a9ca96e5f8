//! The cost of a build follows what changed: what runs again after each kind of change, read
//! from the summary that the program writes.

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::{BUNNY_5S, BUNNY_30S, FRIDAY, Project, TINY_RUNG, ffmpeg, ladder, segments};

const SOUND: &str = "[[audio]]\nname = \"stereo\"\nbitrate = \"64k\"\n";

fn small_project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}{SOUND}")));
    project
}

#[test]
fn a_second_build_runs_nothing() {
    let project = small_project();
    let first = project.build();
    assert_eq!((first.ran("source"), first.ran("index"), first.ran("publish")), (1, 1, 1));
    assert!(first.ran("encode") >= 2 && first.ran("mux") > first.ran("encode") && first.ran("audio") >= 2);
    let second = project.build();
    assert_eq!(second.ran_at_all(), 0, "{}", second.summary());
    for kind in [
        "source", "index", "decode", "chunk", "encode", "audio", "contract", "mux", "pack", "playlist",
        "publish",
    ] {
        assert_eq!(second.count(kind, "cached"), first.ran(kind) + first.count(kind, "cached"), "{kind}");
    }
    assert!(second.stdout.contains("up to date"), "{}", second.stdout);
}

/// Encodes and audio that ran in the next build.
fn encodes_after(project: &Project) -> (u64, u64) {
    let build = project.build();
    (build.ran("encode"), build.ran("audio"))
}

#[test]
fn nothing_is_encoded_again_for_what_is_no_content() {
    let project = small_project();
    project.build();
    let before = project.output();

    let clip = fs::File::options().write(true).open(project.path("clip.mp4")).unwrap();
    clip.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let touched = project.build();
    assert_eq!(
        touched.ran_at_all(),
        touched.ran("source"),
        "a touched file is read and found to be the same"
    );

    fs::create_dir(project.path("moved")).unwrap();
    fs::rename(project.path("clip.mp4"), project.path("moved/renamed.mov")).unwrap();
    project.write("ladder.toml", ladder("moved/renamed.mov", &format!("{TINY_RUNG}{SOUND}")));
    assert_eq!(encodes_after(&project), (0, 0), "moved and renamed");

    fs::remove_dir_all(project.path("out")).unwrap();
    let republished = project.build();
    assert_eq!((republished.ran("encode"), republished.ran("mux"), republished.ran("publish")), (0, 0, 1));
    assert_eq!(project.output(), before, "the same bytes again");

    for container in ["clip.mkv", "clip.mp4", "clip.ts"] {
        let remuxed = project.path(container);
        let source = project.path("moved/renamed.mov");
        let tags = ["-metadata", "title=another"];
        let mut arguments = vec!["-i", source.to_str().unwrap(), "-c", "copy"];
        arguments.extend(tags);
        arguments.push(remuxed.to_str().unwrap());
        ffmpeg(&arguments);
        project.write("ladder.toml", ladder(container, &format!("{TINY_RUNG}{SOUND}")));
        assert_eq!(encodes_after(&project), (0, 0), "remuxed to {container}");
    }
}

#[test]
fn moving_the_whole_project_encodes_nothing() {
    let project = small_project();
    project.build();
    fs::create_dir(project.path("elsewhere")).unwrap();
    for name in ["clip.mp4", "ladder.toml", "out"] {
        fs::rename(project.path(name), project.path("elsewhere").join(name)).unwrap();
    }
    let build = project.build_with(&["elsewhere/ladder.toml"]);
    assert_eq!((build.ran("encode"), build.ran("audio"), build.ran("publish")), (0, 0, 0));
}

#[test]
fn a_rung_is_encoded_again_only_when_it_changes() {
    let project = small_project();
    let rungs =
        |crf: u32| format!("{TINY_RUNG}[[rung]]\nname = \"other\"\nheight = 48\ncrf = {crf}\n{SOUND}");
    project.write("ladder.toml", ladder("clip.mp4", &rungs(40)));
    let first = project.build();
    let chunks = first.ran("encode") / 2;
    project.write("ladder.toml", ladder("clip.mp4", &rungs(41)));
    let second = project.build();
    assert_eq!((second.ran("encode"), second.ran("audio"), second.ran("decode")), (chunks, 0, 0));
    assert!(second.encoded().iter().all(|node| node.starts_with("other/")), "{:?}", second.encoded());
    // Back again: what was there before is still known.
    project.write("ladder.toml", ladder("clip.mp4", &rungs(40)));
    assert_eq!(encodes_after(&project), (0, 0));
    // Sound has a life of its own.
    project.write("ladder.toml", ladder("clip.mp4", &rungs(40)).replace("64k", "80k"));
    assert_eq!(encodes_after(&project), (0, first.ran("audio")));
}

/// A film of which every frame stands for itself, at 24 frames a second.
fn intra_film(project: &Project, name: &str, filter: &str) {
    let (source, to) = (common::clip(BUNNY_30S), project.path(name));
    let filter = format!("scale=214:120,{filter}");
    ffmpeg(&[
        "-i",
        source.to_str().unwrap(),
        "-an",
        "-vf",
        &filter,
        "-c:v",
        "ffv1",
        "-g",
        "1",
        "-slices",
        "4",
        to.to_str().unwrap(),
    ]);
}

#[test]
fn replacing_a_second_encodes_only_what_holds_it() {
    let project = Project::new();
    intra_film(&project, "a.mkv", "null");
    intra_film(&project, "b.mkv", "negate=enable='between(t,14,14.99)'");
    project.write("ladder.toml", ladder("a.mkv", TINY_RUNG));
    let first = project.build();
    assert!(first.ran("encode") >= 10, "thirty seconds are many chunks");
    project.write("ladder.toml", ladder("b.mkv", TINY_RUNG));
    let second = project.build();
    let encoded = second.encoded();
    assert!(!encoded.is_empty());
    // Each one holds some of the second, or borders on a chunk that does.
    let mut start = 0.0;
    for (number, (_, seconds)) in segments(&project.path("out/tiny/playlist.m3u8")).into_iter().enumerate() {
        if encoded.contains(&format!("tiny/{}", number + 1)) {
            assert!(
                start < 15.0 + 1.0 && start + seconds > 14.0 - 1.0,
                "{start} + {seconds} was encoded: {encoded:?}"
            );
        }
        start += seconds;
    }
    assert!(second.seconds_encoded() <= 4.0, "{} s encoded again", second.seconds_encoded());
    // The frames of the second are decoded again, and few others.
    assert!(
        second.ran("decode") < first.ran("decode") / 4,
        "{} of {}",
        second.ran("decode"),
        first.ran("decode")
    );
}

#[test]
fn the_same_film_in_two_titles_is_encoded_once() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "a.mp4");
    let (a, b) = (project.path("a.mp4"), project.path("b.mkv"));
    ffmpeg(&["-i", a.to_str().unwrap(), "-c", "copy", b.to_str().unwrap()]);
    project.write(
        "ladder.toml",
        format!(
            "[[title]]\nname = \"one\"\nsource = \"a.mp4\"\noutput = \"one\"\n\
             [[title]]\nname = \"two\"\nsource = \"b.mkv\"\noutput = \"two\"\n\
             [encoder.rav1e]\nspeed = 10\n{TINY_RUNG}"
        ),
    );
    let build = project.build();
    let chunks = segments(&project.path("one/tiny/playlist.m3u8")).len() as u64;
    assert_eq!((build.ran("encode"), build.count("encode", "cached")), (chunks, chunks));
    let (one, two) = (project.path("one"), project.path("two"));
    assert_eq!(common::published(&one), common::published(&two));
}

/// Episodes that begin with the same opening encode it once.
#[test]
fn a_shared_opening_is_encoded_once() {
    let project = Project::new();
    let bunny = common::clip(BUNNY_30S);
    let bunny = bunny.to_str().unwrap();
    let mut spec = String::from("[encoder.rav1e]\nspeed = 10\n");
    for (number, rest) in ["[1]trim=12:16", "[1]trim=20:24,hflip", "[1]trim=16:20,vflip"].iter().enumerate() {
        let film = project.path(&format!("{number}.mkv"));
        // Each opening stands where the film before it left it: at 0, 2 and 4 s.
        let lead = format!("[2]trim=0:{},negate", number * 2);
        let graph = format!(
            "{lead},setpts=PTS-STARTPTS[l];[0]trim=2:8,setpts=PTS-STARTPTS[o];{rest},setpts=PTS-STARTPTS[r];\
             [l][o][r]concat=n=3,scale=128:72[v]"
        );
        let graph =
            if number == 0 { graph.replace("[2]trim=0:0,negate", "[2]trim=24:25,negate") } else { graph };
        #[rustfmt::skip]
        ffmpeg(&[
            "-i", bunny, "-i", bunny, "-i", bunny, "-filter_complex", &graph, "-map", "[v]", "-an",
            "-c:v", "ffv1", "-g", "1", film.to_str().unwrap(),
        ]);
        spec +=
            &format!("[[title]]\nname = \"{number}\"\nsource = \"{number}.mkv\"\noutput = \"out{number}\"\n");
    }
    project.write("ladder.toml", format!("{spec}{TINY_RUNG}"));
    let build = project.build();
    let all = build.ran("encode") + build.count("encode", "cached");
    assert_eq!(
        all as usize,
        (0..3).map(|n| segments(&project.path(&format!("out{n}/tiny/playlist.m3u8"))).len()).sum::<usize>()
    );
    let seconds: f64 = (0..3)
        .flat_map(|n| segments(&project.path(&format!("out{n}/tiny/playlist.m3u8"))))
        .map(|(_, seconds)| seconds)
        .sum();
    // Of three openings of 6 s two cost nothing but the chunks at their ends.
    assert!(seconds - build.seconds_encoded() > 7.0, "{} of {seconds} s encoded", build.seconds_encoded());
}

/// Uncompressed AVI stores its rows bottom up: all of them count.
#[test]
fn pictures_stored_bottom_up_are_read_whole() {
    let project = Project::new();
    for colour in ["red", "blue"] {
        let to = project.path(&format!("{colour}.avi"));
        let source = format!("color={colour}:s=64x36:d=1:r=10,drawbox=h=2:c=black:t=fill");
        #[rustfmt::skip]
        ffmpeg(&[
            "-f", "lavfi", "-i", &source, "-vf", "vflip", "-pix_fmt", "bgr24", "-c:v", "rawvideo", to.to_str().unwrap(),
        ]);
    }
    project.write("ladder.toml", ladder("red.avi", TINY_RUNG));
    project.build();
    project.write("ladder.toml", ladder("blue.avi", TINY_RUNG));
    assert!(project.build().ran("encode") > 0, "blue is not red");
}

/// Chunks with the same content are one encode, in a plan, too.
#[test]
fn a_plan_counts_what_is_equal_once() {
    let project = Project::new();
    let black = project.path("black.mkv");
    let source = "color=black:s=64x36:d=20:r=10";
    ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "ffv1", black.to_str().unwrap()]);
    project.write("ladder.toml", ladder("black.mkv", TINY_RUNG));
    let first = project.build();
    assert!(first.count("encode", "cached") > 0);
    project.write("ladder.toml", ladder("black.mkv", &TINY_RUNG.replace("36", "40")));
    let output = project.rivet().arg("plan").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("\nrun: {} encode", first.ran("encode"))), "{text}");
}

/// Two pictures that differ only in their palettes are two pictures.
#[test]
fn a_palette_is_part_of_a_picture() {
    let project = Project::new();
    for colour in ["red", "blue"] {
        let source = format!("color={colour}:s=64x36:d=1:r=10");
        let palette = "split[a][b];[a]palettegen=max_colors=4:reserve_transparent=0[p];[b][p]paletteuse";
        let film = project.path(&format!("{colour}.nut"));
        ffmpeg(&["-f", "lavfi", "-i", &source, "-vf", palette, "-c:v", "rawvideo", film.to_str().unwrap()]);
    }
    project.write("ladder.toml", ladder("red.nut", TINY_RUNG));
    project.build();
    project.write("ladder.toml", ladder("blue.nut", TINY_RUNG));
    assert!(project.build().ran("encode") > 0, "blue is not red");
}

#[test]
fn the_plan_tells_what_a_build_then_does() {
    let project = small_project();
    let plan = |project: &Project| {
        let output = project.rivet().arg("plan").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(plan(&project).contains("not analyzed yet"));
    assert!(!project.path("out").exists(), "a plan publishes nothing");
    let first = project.build();
    assert!(plan(&project).contains("\nrun: nothing"), "{}", plan(&project));
    project.write("ladder.toml", ladder("clip.mp4", &format!("{}{SOUND}", TINY_RUNG.replace("36", "40"))));
    let told = plan(&project);
    assert!(told.contains(&format!("encode {0} of {0} segments", first.ran("encode"))), "{told}");
    assert_eq!(project.build().ran("encode"), first.ran("encode"));
}
