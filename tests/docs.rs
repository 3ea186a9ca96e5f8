//! What the documents and examples show works as it stands.

mod common;

use std::path::Path;

use common::{BUNNY_5S, Project, TINY_RUNG, ladder};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readmes_ladder_is_valid() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let spec = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ladder = rivet::spec::parse(spec, &folder.path().join("ladder.toml")).unwrap();
    assert_eq!((ladder.rungs.len(), ladder.audio.len()), (2, 1));
}

#[test]
fn every_example_ladder_is_valid_and_has_its_source() {
    let mut examples = 0;
    for entry in std::fs::read_dir(root().join("examples/ladders")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let ladder = rivet::spec::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(ladder.titles.iter().all(|title| title.source.is_file()), "{}", path.display());
            examples += 1;
        }
    }
    assert!(examples > 0);
}

/// The names of all fields; those that are names of encoders aside.
fn names(json: &Value, all: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            all.extend(fields.keys().cloned());
            fields.iter().filter(|(name, _)| *name != "encoders").for_each(|(_, value)| names(value, all));
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, all)),
        _ => {}
    }
}

#[test]
fn every_field_that_programs_read_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/events.md")).unwrap();
    let told: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let spec = ladder("clip.mp4", &format!("{TINY_RUNG}[[audio]]\nname = \"stereo\"\n"));
    project.write("ladder.toml", &spec);
    let build = project.build();
    std::fs::create_dir(project.path("remote")).unwrap();
    let remote = format!("fs://{}", project.path("remote").display());
    let run = |arguments: &[&str]| {
        let output = project.rivet().args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    run(&["cache", "keygen"]);
    run(&["cache", "pin"]);
    let push = run(&["cache", "push", "--remote-cache", &remote, "--json"]);
    // A damaged result, a file of somebody else's, and work to do.
    let blobs = project.path("cache/rivet/v3/blobs");
    let (blob, _) = common::files_under(&blobs).pop_first().unwrap();
    std::fs::write(blobs.join(blob), "damage").unwrap();
    std::fs::write(project.path("cache/rivet/v3/blobs/foreign"), "").unwrap();
    project.write("ladder.toml", format!("{spec}[segments]\ntarget = \"1s\"\n"));
    let looks: [&[&str]; 9] = [
        &["plan", "--json"],
        &["explain", "ladder.toml", "source", "--json"],
        &["explain", "ladder.toml", "chunk", "--json"],
        &["graph", "--format", "json"],
        &["log", "--json"],
        &["cache", "stats", "--json"],
        &["cache", "pins", "--json"],
        &["cache", "keys", "--json"],
        &["cache", "gc", "--json"],
    ];
    let mut printed: Vec<Vec<u8>> = looks.map(run).into();
    // It says that something is damaged.
    printed.push(project.rivet().args(["cache", "verify", "--json"]).output().unwrap().stdout);
    printed.push(push);
    let mut all = Vec::new();
    build.events.iter().for_each(|event| names(event, &mut all));
    for json in printed {
        let before = all.len();
        names(&serde_json::from_slice(&json).unwrap(), &mut all);
        assert!(all.len() > before, "{}", String::from_utf8_lossy(&json));
    }
    let mut untold: Vec<String> = all.into_iter().filter(|name| !told.contains(&name.as_str())).collect();
    untold.sort();
    untold.dedup();
    assert!(untold.is_empty(), "docs/events.md says nothing of {untold:?}");
}
