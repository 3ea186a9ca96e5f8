//! What a display needs to know of a film in high dynamic range comes out as it went in, with every
//! encoder and in every segment, by ffmpeg's eyes.

mod common;

use std::path::Path;

use common::{BUNNY_5S, Project, clip, ffmpeg, ffprobe, join_track, ladder, segments};
use serde_json::{Value, json};

const MASTERED: &str = "hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:\
     master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400";

/// A film that says how it was mastered in its pictures, and in some containers there, too.
fn film(to: &Path, seconds: &str, parameters: &str) {
    let source = clip(BUNNY_5S);
    let parameters = format!("log-level=none:{parameters}");
    let encode =
        ["-an", "-vf", "scale=192:108", "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast"];
    let arguments = [
        &["-t", seconds, "-i", source.to_str().unwrap()],
        &encode[..],
        &["-x265-params", &parameters, "-color_primaries", "bt2020", "-color_trc", "smpte2084"],
        &["-colorspace", "bt2020nc", to.to_str().unwrap()],
    ];
    ffmpeg(&arguments.concat());
}

/// The side data of the first frame of a file.
fn side_data(file: &Path) -> Vec<Value> {
    let shown = ffprobe(file, &["-select_streams", "v", "-show_frames", "-read_intervals", "%+#1"]);
    let all = shown["frames"][0]["side_data_list"].as_array().cloned().unwrap_or_default();
    let of_displays = |side: &Value| {
        let kind = side["side_data_type"].as_str().unwrap();
        kind.starts_with("Mastering") || kind.starts_with("Content light")
    };
    all.into_iter().filter(of_displays).collect()
}

fn number(fraction: &Value) -> f64 {
    let (num, den) = fraction.as_str().unwrap().split_once('/').unwrap();
    num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap()
}

#[test]
fn every_segment_says_how_the_film_was_mastered() {
    for container in ["mp4", "mkv", "ts"] {
        let project = Project::new();
        let source = project.path(&format!("film.{container}"));
        film(&source, "2", MASTERED);
        let rungs = "[[rung]]\nname = \"a\"\nheight = 108\n[[rung]]\nname = \"b\"\nheight = 72\nencoder = \"svt-av1\"\npreset = 12\n[[rung]]\nname = \"c\"\nheight = 108\nbit_depth = 8\n";
        project.write("ladder.toml", ladder(&format!("film.{container}"), rungs));
        project.build();
        for rung in ["a", "b", "c"] {
            let folder = project.path("out").join(rung);
            let names = segments(&folder.join("playlist.m3u8"));
            assert!(names.len() > 1);
            let playlist = std::fs::read_to_string(folder.join("playlist.m3u8")).unwrap();
            let map = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")).unwrap();
            let init = std::fs::read(folder.join(map.trim_end_matches('"'))).unwrap();
            for (name, _) in names {
                let alone = project.path("alone.mp4");
                let media = std::fs::read(folder.join(name)).unwrap();
                std::fs::write(&alone, [init.clone(), media].concat()).unwrap();
                let found = side_data(&alone);
                let display =
                    found.iter().find(|side| side["side_data_type"] == "Mastering display metadata");
                let display = display.unwrap_or_else(|| panic!("{container} {rung}: {found:?}"));
                let expected = [
                    ("red_x", 35400.0 / 50000.0),
                    ("red_y", 14600.0 / 50000.0),
                    ("green_x", 8500.0 / 50000.0),
                    ("green_y", 39850.0 / 50000.0),
                    ("blue_x", 6550.0 / 50000.0),
                    ("blue_y", 2300.0 / 50000.0),
                    ("white_point_x", 15635.0 / 50000.0),
                    ("white_point_y", 16450.0 / 50000.0),
                    ("max_luminance", 1000.0),
                    ("min_luminance", 0.005),
                ];
                for (what, expected) in expected {
                    let is = number(&display[what]);
                    assert!((is - expected).abs() < 1e-4, "{container} {rung} {what}: {is}, not {expected}");
                }
                let light =
                    found.iter().find(|side| side["side_data_type"] == "Content light level metadata");
                let light = light.unwrap_or_else(|| panic!("{container} {rung}: {found:?}"));
                assert_eq!((&light["max_content"], &light["max_average"]), (&json!(1000), &json!(400)));
            }
            join_track(&folder, &project.path("whole.mp4"));
            let (whole, units) = (project.path("whole.mp4"), project.path("whole.obu"));
            ffmpeg(&["-i", whole.to_str().unwrap(), "-c", "copy", "-f", "obu", units.to_str().unwrap()]);
            let decoded = project.path("whole.y4m");
            let arguments =
                ["-q", "--strict", "1", "-i", units.to_str().unwrap(), "-o", decoded.to_str().unwrap()];
            common::quietly("dav1d", arguments);
        }
    }
}

#[test]
fn another_display_is_another_film() {
    let project = Project::new();
    project.write("ladder.toml", ladder("film.mp4", "[[rung]]\nname = \"a\"\nheight = 54\n"));
    film(&project.path("film.mp4"), "1", MASTERED);
    let first = project.build();
    assert!(first.ran("encode") > 0);
    film(&project.path("film.mp4"), "1", &MASTERED.replace("1000,400", "2000,400"));
    let again = project.build();
    assert_eq!(again.ran("encode"), first.ran("encode"), "what is said changes every segment");
    // One that says nothing makes no room for it.
    let quiet = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc";
    film(&project.path("film.mp4"), "1", quiet);
    project.build();
    join_track(&project.path("out/a"), &project.path("a.mp4"));
    assert_eq!(side_data(&project.path("a.mp4")), [] as [Value; 0]);
}
