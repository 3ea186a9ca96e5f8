//! What the documents and examples show works as it stands.

use std::path::Path;

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
