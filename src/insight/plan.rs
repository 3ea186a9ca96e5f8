//! What a build will run, what is cached, and why.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::explain::{compare, dry_run_graph_of, ladder_of};
use crate::build::engine::{Engine, Settings};
use crate::build::record::BuildRecord;
use crate::build::{FailureReport, Options, TitlePlan, check_encoders, open_engine, settings};
use crate::cache::{Digest, RemoteReport, Tiers};
use crate::spec::Ladder;
use crate::steps::recipe::Recipe;
use crate::steps::tools::Tools;
use crate::steps::{Kind, StepError, audio, encode};
use crate::title::Title;
use crate::title::ids::TrackId;

/// What a build will do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub nodes: Vec<KindPlan>,
    pub titles: Vec<TitlePlan>,
    /// The build that reasons compare with. `None` where nothing is to encode, or where the log has no finished
    /// build of this spec.
    pub last: Option<ComparedBuild>,
    /// Rungs that name several encoders, so that their bytes may differ from build to build.
    pub several_encoders: Vec<String>,
    pub failures: Vec<FailureReport>,
    /// What came of the remote, if there is one.
    pub remote: Option<RemoteReport>,
    pub interrupted: bool,
}

/// An earlier build, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComparedBuild {
    /// Its name in the log.
    pub build: String,
    /// Seconds since 1970.
    pub started: u64,
    /// Its spec: of a copy of the project, that copy's.
    pub ladder: PathBuf,
}

/// Steps of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct KindPlan {
    pub kind: Kind,
    /// The cache has no entry under their keys.
    pub run: u64,
    /// They need a step that runs: they are cached if it produces what it did before.
    pub may_run: u64,
    pub cached: u64,
}

impl Plan {
    /// Whether a build has anything to run.
    pub fn has_to_run(&self) -> bool {
        self.nodes.iter().any(|kind| kind.run > 0)
    }
}

/// Looks up what a build will run, and what is cached. Nothing is decoded or built; a source that has
/// never been seen is read once, for its digest.
pub fn plan(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
) -> Result<Plan, StepError> {
    let settings = Settings { dry_run: true, ..settings(options) };
    let mut engine = open_engine(ladder, Arc::clone(cache), settings, Arc::clone(&cancelled), &|_| {})?;
    check_encoders(ladder, &engine)?;
    engine.run();
    let mut outcome = std::mem::take(&mut engine.outcome);
    let mut titles = std::mem::take(&mut outcome.titles);
    let encodes = titles.iter().flat_map(|title| &title.tracks).any(|track| track.to_encode > 0);
    let mut last = None;
    if encodes && !outcome.interrupted {
        match tell_why(ladder, cache, options, &cancelled, &engine, &mut titles) {
            Err(error) if error.is_cancelled() => outcome.interrupted = true,
            compared => last = compared?,
        }
    }
    let nodes = Kind::ALL.into_iter().map(|kind| {
        let counts = outcome.counts.get(&kind).copied().unwrap_or_default();
        KindPlan {
            kind,
            run: outcome.would_run.get(&kind).copied().unwrap_or(0),
            may_run: outcome.follows.get(&kind).copied().unwrap_or(0),
            // A source that was hashed just now is read, not rebuilt.
            cached: counts.cached + counts.ran,
        }
    });
    let several = ladder.rungs.iter().filter(|rung| rung.encoders.len() > 1);
    Ok(Plan {
        nodes: nodes.collect(),
        titles,
        last,
        several_encoders: several.map(|rung| rung.name.clone()).collect(),
        failures: outcome.failures,
        remote: cache.report(),
        interrupted: outcome.interrupted,
    })
}

/// Compares each track with chunks to encode with what the last build had, and returns that build.
fn tell_why(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
    now: &Engine<'_>,
    titles: &mut [TitlePlan],
) -> Result<Option<ComparedBuild>, StepError> {
    let record = BuildRecord::last_of(cache.local(), ladder, &now.titles)?;
    let last_ladder = record.as_ref().and_then(ladder_of);
    let last = match (&record, &last_ladder) {
        (Some(record), Some(ladder)) => {
            Some(dry_run_graph_of(record, ladder, cache, options, cancelled, false)?)
        }
        _ => None,
    };
    for plan in titles {
        let Some(title) = now.titles.iter().find(|title| title.name == plan.name) else { continue };
        let old = last.as_ref().and_then(|last| last.titles.iter().find(|old| old.name == plan.name));
        for track in &mut plan.tracks {
            if track.to_encode > 0 {
                let tools = last.as_ref().map(|last| &last.tools);
                track.why = why(title, old, &track.name, now, tools);
            }
        }
    }
    Ok(record.filter(|_| last.is_some()).map(|record| ComparedBuild {
        build: record.name,
        started: record.started,
        ladder: record.ladder,
    }))
}

fn why(
    title: &Title,
    old: Option<&Title>,
    name: &str,
    now: &Engine<'_>,
    tools: Option<&Tools>,
) -> Vec<String> {
    let (Some(old), Some(tools)) = (old, tools) else {
        return vec!["the build log has no finished build of this spec".to_owned()];
    };
    if old.tracks.is_empty() {
        return vec!["the cache no longer has what the last build found in its source".to_owned()];
    }
    let named =
        |title: &Title| title.track_ids().find(|&id| title.track(id).is_some_and(|track| track.name == name));
    let (Some(track), Some(old_track)) = (named(title), named(old)) else {
        return vec!["the last build had no such track".to_owned()];
    };
    let recipe = encode_recipe(title, track, &now.tools);
    let before = encode_recipe(old, old_track, tools);
    let fields = compare(recipe.as_ref(), before.as_ref());
    let quoted = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
    let mut reasons: Vec<String> = fields
        .iter()
        .filter(|field| field.differs)
        .map(|field| {
            format!("{}: {}, was {}", field.name, quoted(field.now.as_deref()), quoted(field.last.as_deref()))
        })
        .collect();
    let known: HashSet<Digest> = old.chunks_of(old_track).iter().map(|chunk| chunk.identity).collect();
    let new = title.chunks_of(track).iter().filter(|chunk| !known.contains(&chunk.identity)).count();
    if new > 0 {
        let (what, content) =
            if title.rung(track).is_some() { ("chunks", "frames") } else { ("windows", "audio") };
        reasons.push(format!(
            "{new} of {} {what} have {content} that the last build did not have",
            title.chunks_of(track).len()
        ));
    }
    let choices = old.rung(old_track).map_or(&[][..], |rung| &rung.choices);
    if reasons.is_empty() && choices.len() > 1 {
        let names: Vec<&str> = choices.iter().map(|choice| choice.settings.encoder.name()).collect();
        reasons.push(format!("in the last build any of {} encoded it", names.join(", ")));
    }
    if reasons.is_empty() {
        reasons.push("the cache no longer has what the last build encoded".to_owned());
    }
    reasons
}

/// All that goes into the key of a track's encodes but which chunk it is, by the encoder that is preferred.
fn encode_recipe(title: &Title, track: TrackId, tools: &Tools) -> Option<Recipe> {
    let nothing = Digest([0; 32]);
    match title.rung(track) {
        Some(_) => encode::recipes(title, track, nothing, tools).ok()?.into_iter().next(),
        None => audio::recipe(title, track, nothing, tools).ok(),
    }
}
