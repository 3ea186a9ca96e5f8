//! What is known of a title says which steps there are.

use std::path::Path;

use super::*;
use crate::cache::Digest;
use crate::media;
use crate::spec::parse;
use crate::steps::{Step, steps_of};

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/friday_640x480_30_aac.mp4");

fn title(spec: &str) -> Title {
    let head = format!("[title]\nsource = '{CLIP}'\noutput = 'out'\n");
    let ladder = parse(&(head + spec), Path::new("/no/ladder.toml")).unwrap();
    let mut title = Title::new(&ladder, TitleId::new(0), &ladder.titles[0]);
    title.learn_digest(Digest([1; 32]));
    title
}

/// Knows its tracks, and no chunk yet.
fn begun(spec: &str) -> Title {
    media::init();
    let mut title = title(spec);
    let index = Arc::new(media::scan(Path::new(CLIP), &|| false).unwrap());
    let frames = index.video.spans.iter().map(|span| (span.end - span.first) as u32);
    let timing = Timing {
        timescale: 30,
        frame_rate: media::Rational { num: 30, den: 1 },
        span_frames: frames.collect(),
        origin: 0,
    };
    title.learn_index(index).unwrap();
    title.learn_timing(timing, &|_| Ok(vec!["an encoder".to_owned()])).unwrap();
    title
}

fn chunk(number: u64) -> Chunk {
    let identity = Digest::of(&number.to_le_bytes());
    Chunk { first: number, frames: 1, start: number, durations: vec![(1, 1)], identity }
}

const RUNG: &str = "[[rung]]\nname = 'a'\nheight = 36\nencoder = 'rav1e'\n";

/// Every pack exists, whatever chunks are in memory when they are finished.
#[test]
fn packs_are_complete_whatever_is_in_memory() {
    for is_in_memory in
        [|_| true, |_| false, |number: u64| number != 128, |number: u64| !number.is_multiple_of(7)]
    {
        let mut title = begun(RUNG);
        title.take_touched(Vec::new);
        let mut touched = BTreeSet::new();
        for number in 0..300 {
            title.learn_chunk(chunk(number), is_in_memory(number));
            touched.extend(title.take_touched(Vec::new));
        }
        let timing = title.timing.clone().unwrap();
        title.learn_chunks(&ChunkList { timing, chunks: (0..300).map(chunk).collect() });
        touched.extend(title.take_touched(Vec::new));
        let packs: Vec<Step> = touched
            .iter()
            .filter(|part| matches!(part, Part::Segments(..)))
            .flat_map(|&part| steps_of(part, &title))
            .filter(|step| matches!(step, Step::PackSegments(_)))
            .collect();
        assert_eq!((packs.len(), title.tracks[0].packs.len()), (3, 3));
    }
}

/// A title need not be HLS: without it there are no playlists, and everything else is published.
#[test]
fn a_title_without_hls_has_no_playlists() {
    let steps = |formats: Vec<PackageFormat>| {
        let mut title = begun(RUNG);
        title.formats = formats;
        let timing = title.timing.clone().unwrap();
        title.learn_chunks(&ChunkList { timing, chunks: vec![chunk(0)] });
        let steps = steps_of(Part::Package, &title);
        // Whatever a step needs is there.
        let parts = [Part::Source, Part::Chunks, Part::Audio, Part::Package];
        let segments = Part::Segments(TrackId::new(0), PackId::new(0));
        let all: Vec<Step> =
            parts.into_iter().chain([segments]).flat_map(|part| steps_of(part, &title)).collect();
        let needed = steps.iter().flat_map(|step| step.inputs(&title));
        needed.for_each(|input| assert!(all.contains(&input), "{input:?}"));
        steps.iter().map(|step| step.label(&title)).collect::<Vec<_>>()
    };
    assert_eq!(
        steps(vec![PackageFormat::Hls]),
        ["a/contract", "a/init", "a/playlist", "multivariant", "publish"]
    );
    assert_eq!(steps(Vec::new()), ["a/contract", "a/init", "publish"]);
}

/// What a spec asks of a source that has no such track is told before anything is decoded, and leaves nothing.
#[test]
fn a_track_that_is_not_there_is_told_at_once() {
    media::init();
    let mut title = title(&format!("{RUNG}[[audio]]\nname = 'main'\ntrack = 9\n"));
    let index = Arc::new(media::scan(Path::new(CLIP), &|| false).unwrap());
    let error = title.learn_index(index).unwrap_err().to_string();
    assert!(error.contains("no audio track 9"), "{error}");
    assert!(title.index().is_none() && title.tracks.is_empty());
}

/// What was withdrawn is told from what came after it.
#[test]
fn withdrawn_steps_have_another_revision() {
    let mut title = begun(RUNG);
    let (part, before) = (Part::Segments(TrackId::new(0), PackId::new(0)), title.revision(Part::Package));
    title.learn_chunk(chunk(0), true);
    assert_eq!(steps_of(part, &title).len(), 2);
    let index = title.join_spans().unwrap();
    assert_eq!((index.video.spans.len(), title.chunks().len()), (1, 0));
    assert!(steps_of(part, &title).is_empty() && title.revision(Part::Package) > before);
    assert!(title.join_spans().is_none(), "it is one span already");
}
