//! Bad input gets a clear error, the right exit status, and nothing of an earlier good output is
//! lost.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{BUNNY_5S, FRIDAY, Project, TINY_RUNG, ffmpeg, ladder};

/// A project with a good output, whose source then goes bad.
fn published() -> Project {
    let project = Project::new();
    project.copy_clip(FRIDAY, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", TINY_RUNG));
    project.build();
    project
}

/// The build fails with this status and these words, and leaves the output as it was.
fn refused(project: &Project, status: i32, words: &[&str]) {
    let before = project.output();
    let build = project.try_build(&[]);
    assert_eq!(build.status, status, "{}{}", build.stdout, build.stderr);
    for word in words {
        assert!(build.stderr.contains(word), "no {word:?} in:\n{}", build.stderr);
    }
    assert!(!build.stderr.contains("panic"), "{}", build.stderr);
    assert_eq!(project.output(), before, "the earlier output is untouched");
}

#[test]
fn a_text_file_in_disguise() {
    let project = published();
    project.write("clip.mp4", "This is no film.\n".repeat(500));
    refused(&project, 1, &["clip.mp4 is not a media file", "hint:"]);
}

#[test]
fn an_empty_file() {
    let project = published();
    project.write("clip.mp4", "");
    refused(&project, 1, &["the file is empty"]);
}

#[test]
fn a_missing_file() {
    let project = published();
    fs::remove_file(project.path("clip.mp4")).unwrap();
    refused(&project, 1, &["cannot open", "clip.mp4", "No such file"]);
}

#[test]
fn a_folder_as_source() {
    let project = published();
    fs::remove_file(project.path("clip.mp4")).unwrap();
    fs::create_dir(project.path("clip.mp4")).unwrap();
    refused(&project, 1, &["not a regular file"]);
}

/// Cut at several places, with the index in front and behind, and in other containers.
#[test]
fn a_file_cut_in_the_middle() {
    let project = published();
    let whole = common::clip(FRIDAY);
    for (name, options) in [
        ("front.mp4", &["-movflags", "+faststart"][..]),
        ("behind.mp4", &[]),
        ("fragmented.mp4", &["-movflags", "+frag_keyframe+empty_moov"]),
        ("clip.mkv", &[]),
        ("clip.avi", &["-bsf:v", "h264_mp4toannexb"]),
    ] {
        let path = project.path(name);
        let mut arguments = vec!["-i", whole.to_str().unwrap(), "-c", "copy"];
        arguments.extend(options);
        arguments.push(path.to_str().unwrap());
        ffmpeg(&arguments);
        let bytes = fs::read(&path).unwrap();
        for part in [3, 5, 9] {
            fs::write(&path, &bytes[..bytes.len() * part / 10]).unwrap();
            project.write("ladder.toml", ladder(name, TINY_RUNG));
            let before = project.output();
            let build = project.try_build(&[]);
            assert_eq!(build.status, 1, "{name}, {part} tenths\n{}{}", build.stdout, build.stderr);
            let told = ["damaged or cut short", "is not a media file"]
                .iter()
                .any(|words| build.stderr.contains(words));
            assert!(told, "{name}, {part} tenths\n{}", build.stderr);
            assert_eq!(project.output(), before);
        }
    }
}

#[test]
fn garbage_in_the_middle() {
    let project = published();
    let mut bytes = fs::read(common::clip(FRIDAY)).unwrap();
    let middle = bytes.len() / 2;
    for (n, byte) in bytes[middle..middle + 20_000].iter_mut().enumerate() {
        *byte = ((n * 7919) >> 3) as u8;
    }
    project.write("clip.mp4", bytes);
    refused(&project, 1, &["damaged or cut short"]);
}

/// Where the first byte of the `n`-th packet of a track lies in a file, and how long it is.
fn packet(path: &std::path::Path, track: &str, n: usize) -> (usize, usize) {
    let json = common::ffprobe(path, &["-select_streams", track, "-show_entries", "packet=pos,size"]);
    let number = |name: &str| json["packets"][n][name].as_str().unwrap().parse().unwrap();
    (number("pos"), number("size"))
}

/// One lost picture among hundreds: decoders pass over it in silence.
#[test]
fn one_zeroed_packet() {
    let project = published();
    let path = project.path("clip.mp4");
    for n in [0, 50, 120] {
        let mut bytes = fs::read(common::clip(FRIDAY)).unwrap();
        let (start, size) = packet(&common::clip(FRIDAY), "v", n);
        bytes[start + 4..start + size].fill(0);
        fs::write(&path, bytes).unwrap();
        refused(&project, 1, &["clip.mp4 is damaged"]);
    }
}

#[test]
fn sound_that_breaks_off() {
    let project = published();
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}[[audio]]\nname = \"stereo\"\n")));
    let whole = common::clip(FRIDAY);
    let mut bytes = fs::read(&whole).unwrap();
    for n in 130..260 {
        let (start, size) = packet(&whole, "a", n);
        bytes[start..start + size].fill(0xff);
    }
    project.write("clip.mp4", bytes);
    refused(&project, 1, &["damaged", "audio"]);
}

#[test]
fn sound_without_pictures() {
    let project = published();
    let (whole, sound) = (common::clip(FRIDAY), project.path("clip.mp4"));
    ffmpeg(&["-i", whole.to_str().unwrap(), "-vn", "-c", "copy", sound.to_str().unwrap()]);
    refused(&project, 1, &["has no video track"]);
}

/// A cover picture is no film.
#[test]
fn a_song_with_a_cover() {
    let project = published();
    let (whole, cover, song) = (common::clip(FRIDAY), project.path("cover.png"), project.path("song.m4a"));
    ffmpeg(&["-i", whole.to_str().unwrap(), "-frames:v", "1", "-update", "1", cover.to_str().unwrap()]);
    ffmpeg(&[
        "-i",
        whole.to_str().unwrap(),
        "-i",
        cover.to_str().unwrap(),
        "-map",
        "0:a",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v",
        "attached_pic",
        song.to_str().unwrap(),
    ]);
    project.write("ladder.toml", ladder("song.m4a", TINY_RUNG));
    refused(&project, 1, &["has no video track"]);
}

#[test]
fn a_silent_film_builds_with_a_warning() {
    let project = Project::new();
    let (whole, silent) = (common::clip(FRIDAY), project.path("clip.mp4"));
    ffmpeg(&["-i", whole.to_str().unwrap(), "-an", "-c", "copy", silent.to_str().unwrap()]);
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}[[audio]]\nname = \"stereo\"\n")));
    let build = project.build();
    assert!(build.stderr.contains("warning: clip: the source has no sound"), "{}", build.stderr);
    let master = fs::read_to_string(project.path("out/master.m3u8")).unwrap();
    assert!(!master.contains("AUDIO"), "{master}");
}

#[test]
fn a_wrong_spec_is_shown_in_its_place_and_writes_nothing() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "clip.mp4");
    let spec = "[title]\nsource = \"clip.mp4\"\noutput = \"out\"\n[vdeo]\ncrf = 30\n[[rung]]\nname = \"a\"\nheight = \"720\"\n";
    project.write("ladder.toml", spec);
    let build = project.try_build(&[]);
    assert_eq!(build.status, 2);
    for words in ["vdeo", "did you mean", "height", "ladder.toml:4:2", "^"] {
        assert!(build.stderr.contains(words), "no {words:?} in:\n{}", build.stderr);
    }
    assert!(!project.path("out").exists() && !project.path("cache").exists());
    let missing = project.try_build(&["nowhere.toml"]);
    assert_eq!(missing.status, 2);
    assert!(missing.stderr.contains("nowhere.toml"), "{}", missing.stderr);
}

#[test]
fn an_output_folder_of_other_peoples_files() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "clip.mp4");
    project.write("out/holiday.jpg", "a picture");
    project.write("ladder.toml", ladder("clip.mp4", TINY_RUNG));
    refused(&project, 1, &["out", "did not write", "hint:"]);
    assert_eq!(project.try_build(&[]).ran("decode"), 0);
}

/// Nobody, not even root, makes folders in /proc.
#[test]
fn an_output_that_cannot_be_written_is_found_before_anything_is_decoded() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "clip.mp4");
    let title = |name: &str, output: &str| {
        format!("[[title]]\nname = \"{name}\"\nsource = \"clip.mp4\"\noutput = \"{output}\"\n")
    };
    let titles = title("bad", "/proc/rivet/bad") + &title("good", "good");
    project.write("ladder.toml", format!("{titles}[encoder.rav1e]\nspeed = 10\n{TINY_RUNG}"));
    let build = project.try_build(&[]);
    assert_eq!(build.status, 1);
    for words in
        ["nothing can be written to the output folder /proc/rivet/bad: in /proc: ", "another `output`"]
    {
        assert!(build.stderr.contains(words), "no {words:?} in:\n{}", build.stderr);
    }
    assert_eq!(build.ran("decode"), 0);
    let build = project.try_build(&["--keep-going"]);
    assert_eq!(build.status, 1);
    assert!(build.stderr.contains("output folder /proc/rivet/bad"), "{}", build.stderr);
    assert!(project.path("good/master.m3u8").exists());
}

#[test]
fn keep_going_builds_the_other_titles() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "good.mp4");
    project.write("bad.mp4", "no film");
    project.write(
        "ladder.toml",
        format!(
            "[[title]]\nname = \"bad\"\nsource = \"bad.mp4\"\noutput = \"bad\"\n\
             [[title]]\nname = \"good\"\nsource = \"good.mp4\"\noutput = \"good\"\n\
             [encoder.rav1e]\nspeed = 10\n{TINY_RUNG}"
        ),
    );
    let build = project.try_build(&["--keep-going"]);
    assert_eq!(build.status, 1);
    assert!(build.stderr.contains("bad: index:"), "{}", build.stderr);
    assert!(project.path("good/master.m3u8").exists() && !project.path("bad").exists());
    assert_eq!(build.count("index", "failed"), 1);
}

/// Runs a shell in a mount namespace of its own, as root or as nobody in particular.
fn in_namespace(project: &Project, script: &str) -> std::process::Output {
    let root = rustix::process::geteuid().is_root();
    let flags: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    Command::new("unshare")
        .args(flags)
        .args(["sh", "-ec", script])
        .current_dir(project.root())
        .env("XDG_CACHE_HOME", project.path("cache"))
        .env_remove("RIVET_CACHE_DIR")
        .env("RIVET", env!("CARGO_BIN_EXE_rivet"))
        .output()
        .expect("unshare runs")
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_full_disk_under_the_output() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    fs::create_dir(project.path("disk")).unwrap();
    let spec = |height: u32| {
        ladder("clip.mp4", &format!("[[rung]]\nname = \"r\"\nheight = {height}\n"))
            .replace("\"out\"", "\"disk/out\"")
    };
    project.write("small.toml", spec(36));
    project.write("large.toml", spec(180));
    // The small stream fits, the large one does not; the small one must survive the attempt.
    let output = in_namespace(
        &project,
        "mount -t tmpfs -o size=80k none disk\n\
         $RIVET build small.toml\n\
         cp -r disk/out before\n\
         status=0; $RIVET build large.toml || status=$?\n\
         test $status = 1\n\
         diff -r -x '.rivet*' disk/out before\n\
         $RIVET build small.toml",
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("free") && text.contains("hint:"), "{text}");
    assert!(text.contains("up to date"), "{text}");
}

#[test]
fn a_full_disk_under_the_cache() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    fs::create_dir(project.path("disk")).unwrap();
    project.write("ladder.toml", ladder("clip.mp4", "[[rung]]\nname = \"r\"\nheight = 180\n"));
    let output = in_namespace(
        &project,
        "mount -t tmpfs -o size=60k none disk\n\
         status=0; $RIVET build --cache-dir disk || status=$?\n\
         test $status = 1\n\
         test ! -e out\n\
         mount -o remount,size=50m disk\n\
         $RIVET build --cache-dir disk",
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the disk that holds the cache is full"), "{text}");
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    let project = Project::new();
    project.copy_clip(FRIDAY, "clip.mp4");
    fs::create_dir(project.path("disk")).unwrap();
    project.write("ladder.toml", ladder("clip.mp4", TINY_RUNG).replace("\"out\"", "\"disk/out\""));
    // A read-only mount stops root, too.
    let output = in_namespace(
        &project,
        "mount -t tmpfs -o ro none disk\n\
         status=0; $RIVET build || status=$?\n\
         test $status = 1",
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("disk/out") && text.contains("read-only file system"), "{text}");
}

/// Whoever may not read the source is told so. Root may read everything.
#[test]
fn a_source_that_may_not_be_read() {
    let project = published();
    let before = project.output();
    common::quietly("chmod", ["-R", "a+rwX", project.root().to_str().unwrap()]);
    fs::set_permissions(project.path("clip.mp4"), fs::Permissions::from_mode(0o000)).unwrap();
    let output = project.rivet_as_anybody().arg("build").output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot open") && told.contains("Permission denied"), "{told}");
    assert_eq!(project.output(), before, "the earlier output is untouched");
}
