//! The same content gives the same bytes: with any number of jobs, from any cache, in any place.

mod common;

use common::{BUNNY_5S, FLOWER, Project, ladder};

const RUNGS: &str = "[[rung]]\nname = \"a\"\nheight = 72\n[[rung]]\nname = \"b\"\nheight = 36\nbit_depth = 10\n\
                     [[audio]]\nname = \"stereo\"\nbitrate = \"64k\"\n";

#[test]
fn jobs_caches_and_places_change_no_byte() {
    let build = |jobs: &str, memory: &str, folder: &str| {
        let project = Project::new();
        std::fs::create_dir_all(project.path(folder)).unwrap();
        project.copy_clip(BUNNY_5S, &format!("{folder}/clip.mp4"));
        let spec = format!("{folder}/ladder.toml");
        project.write(&spec, ladder("clip.mp4", RUNGS));
        let build = project.build_with(&["--jobs", jobs, "--memory", memory, &spec]);
        assert_eq!(build.count("encode", "cached"), 0, "the cache was cold");
        common::published(&project.path(&format!("{folder}/out")))
    };
    let one = build("1", "4G", "here");
    assert!(one.len() > 10);
    assert_eq!(one, build("2", "4G", "else/where"), "two jobs");
    assert_eq!(one, build("5", "1M", "there"), "many jobs and little memory");
}

/// An edit that is taken back leaves no trace.
#[test]
fn a_warm_cache_gives_the_bytes_of_a_cold_one() {
    let cold = Project::new();
    cold.copy_clip(FLOWER, "clip.mp4");
    cold.write("ladder.toml", ladder("clip.mp4", RUNGS));
    cold.build();

    let warm = Project::new();
    warm.copy_clip(FLOWER, "clip.mp4");
    warm.write("ladder.toml", ladder("clip.mp4", &RUNGS.replace("72", "48")));
    warm.build();
    warm.write("ladder.toml", ladder("clip.mp4", RUNGS));
    let build = warm.build();
    assert!(build.ran("encode") > 0 && build.count("encode", "cached") > 0);
    assert_eq!(cold.output(), warm.output());
}
