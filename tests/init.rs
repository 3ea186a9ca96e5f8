//! A spec for a source that has none: it builds as it was written.

mod common;

use common::{BUNNY_5S, Project, ffmpeg};

#[test]
fn what_init_writes_builds() {
    let project = Project::new();
    let clip = common::clip(BUNNY_5S);
    let small = ["-vf", "scale=428:240", "-c:v", "libx264", "-c:a", "copy"];
    let source = project.path("a clip.mp4");
    ffmpeg(&[&["-i", clip.to_str().unwrap()], &small[..], &[source.to_str().unwrap()]].concat());
    let told = project.rivet().args(["init", "a clip.mp4"]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let text = std::fs::read_to_string(project.path("ladder.toml")).unwrap();
    assert!(text.contains("encoder = \"svt-av1\""), "{text}");
    let build = project.build();
    assert_eq!(build.ran("contract"), 1, "one rung of 240: {text}");
    assert!(project.path("dist/a clip/240p/playlist.m3u8").exists());
    assert!(project.path("dist/a clip/main/playlist.m3u8").exists());
    assert!(build.stderr.is_empty() || !build.stderr.contains("warning"), "{}", build.stderr);

    assert!(String::from_utf8_lossy(&told.stdout).contains("`rivet build` builds the stream"));

    // It overwrites nothing.
    let again = project.rivet().args(["init", "a clip.mp4"]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("name another file with --output"));
    assert_eq!(std::fs::read_to_string(project.path("ladder.toml")).unwrap(), text);
    let printed = project.rivet().args(["init", "a clip.mp4", "--output", "-"]).output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), text);
}

/// SVT-AV1 makes no pictures of less than 64x64.
#[test]
fn what_init_writes_for_a_small_film_builds() {
    let project = Project::new();
    let clip = common::clip(BUNNY_5S);
    let small = ["-t", "1", "-vf", "scale=64:36", "-c:v", "libx264", "-an"];
    let source = project.path("tiny.mp4");
    ffmpeg(&[&["-i", clip.to_str().unwrap()], &small[..], &[source.to_str().unwrap()]].concat());
    assert!(project.rivet().args(["init", "tiny.mp4"]).status().unwrap().success());
    assert!(project.build().ran("encode") > 0);
}

#[test]
fn a_spec_may_lie_elsewhere() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("sub/notes.txt", "");
    for (spec, command) in
        [("sub/x.toml", "rivet build sub/x.toml"), ("my x.toml", "rivet build 'my x.toml'")]
    {
        let told = project.rivet().args(["init", "clip.mp4", "-o", spec]).output().unwrap();
        let stdout = String::from_utf8_lossy(&told.stdout);
        assert!(stdout.contains(&format!("wrote {spec}; `{command}` builds")), "{stdout}");
        assert!(project.rivet().args(["plan", spec]).status().unwrap().success());
    }
    let text = std::fs::read_to_string(project.path("sub/x.toml")).unwrap();
    assert!(text.contains("source = \"../clip.mp4\""), "{text}");

    let told = project.rivet().args(["init", "clip.mp4", "-o", "nodir/x.toml"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert!(stderr.starts_with("error: cannot write nodir/x.toml: "), "{stderr}");
    assert!(stderr.contains("hint: create its folder first"), "{stderr}");
    let told = project.rivet().args(["init", "nofile.mp4"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert!(stderr.contains("cannot open nofile.mp4") && !stderr.contains("in the spec"), "{stderr}");
}

#[test]
fn what_is_no_video_gets_no_spec() {
    let project = Project::new();
    project.write("notes.txt", "not a video");
    for source in ["notes.txt", "nothing.mp4", "."] {
        let told = project.rivet().args(["init", source]).output().unwrap();
        assert_eq!(told.status.code(), Some(1), "{source}");
        assert!(String::from_utf8_lossy(&told.stderr).starts_with("error: "), "{source}");
        assert!(!project.path("ladder.toml").exists());
    }
}
