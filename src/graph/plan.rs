//! What a build would run and reuse, and why.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::cache::{Digest, RemoteReport, Tiers};
use crate::spec::Ladder;

use super::error::StepError;
use super::event::{FailureReport, Kind};
use super::explain::{compare, ladder_of, survey_of};
use super::record::BuildRecord;
use super::scheduler::{Scheduler, Settings};
use super::title::Title;
use super::{Options, check_encoders, schedule, settings};

/// What a build would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub nodes: Vec<KindPlan>,
    pub titles: Vec<TitlePlan>,
    /// Rungs that name several encoders, so that their bytes may differ from build to build.
    pub several_encoders: Vec<String>,
    pub failures: Vec<FailureReport>,
    /// What came of the remote, if there is one.
    pub remote: Option<RemoteReport>,
    pub interrupted: bool,
}

/// Steps of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct KindPlan {
    pub kind: Kind,
    /// The cache has nothing under their keys.
    pub would_run: u64,
    /// They depend on steps that would run: they run, too, unless those make what was there before.
    pub follow: u64,
    pub reused: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct TitlePlan {
    pub name: String,
    /// Whether it is known how the film is cut; if not, what there is to encode is known once it
    /// has been decoded.
    pub exact: bool,
    pub up_to_date: bool,
    /// Length of the picture, as far as it is known.
    pub seconds: f64,
    pub tracks: Vec<TrackPlan>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TrackPlan {
    pub name: String,
    /// Width and height of the picture; `None` for sound.
    pub size: Option<(u32, u32)>,
    pub segments: u64,
    pub to_encode: u64,
    pub seconds_to_encode: f64,
    /// The numbers of the segments to encode, from 1, as ranges.
    pub which: Vec<(u64, u64)>,
    /// Why they would be encoded.
    pub why: Vec<String>,
}

impl Plan {
    /// Whether a build would do anything at all.
    pub fn would_run(&self) -> bool {
        self.nodes.iter().any(|kind| kind.would_run > 0)
    }
}

/// Looks what a build would run and reuse. Nothing is decoded or built; a source that has
/// never been seen is read once, for its digest.
pub fn plan(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
) -> Result<Plan, StepError> {
    let settings = Settings { dry_run: true, ..settings(options) };
    let mut scheduler = schedule(ladder, Arc::clone(cache), settings, Arc::clone(&cancelled), &|_| {})?;
    check_encoders(ladder, &scheduler)?;
    scheduler.run();
    let mut outcome = std::mem::take(&mut scheduler.outcome);
    let mut titles = std::mem::take(&mut outcome.titles);
    let encodes = titles.iter().flat_map(|title| &title.tracks).any(|track| track.to_encode > 0);
    if encodes && !outcome.interrupted {
        match tell_why(ladder, cache, options, &cancelled, &scheduler, &mut titles) {
            Err(error) if error.is_cancelled() => outcome.interrupted = true,
            told => told?,
        }
    }
    let nodes = Kind::ALL.into_iter().map(|kind| {
        let counts = outcome.counts.get(&kind).copied().unwrap_or_default();
        KindPlan {
            kind,
            would_run: outcome.would_run.get(&kind).copied().unwrap_or(0),
            follow: outcome.follows.get(&kind).copied().unwrap_or(0),
            // A source that was hashed just now is read, not rebuilt.
            reused: counts.cached + counts.ran,
        }
    });
    let several = ladder.rungs.iter().filter(|rung| rung.encoders.len() > 1);
    Ok(Plan {
        nodes: nodes.collect(),
        titles,
        several_encoders: several.map(|rung| rung.name.clone()).collect(),
        failures: outcome.failures,
        remote: cache.report(),
        interrupted: outcome.interrupted,
    })
}

/// Compares each track that would be encoded with what the last build had.
fn tell_why(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
    now: &Scheduler<'_>,
    titles: &mut [TitlePlan],
) -> Result<(), StepError> {
    let record = BuildRecord::last_of(cache.local(), ladder)?;
    let last_ladder = record.as_ref().and_then(ladder_of);
    let last = match (&record, &last_ladder) {
        (Some(record), Some(ladder)) => Some(survey_of(record, ladder, cache, options, cancelled, false)?),
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
    Ok(())
}

fn why(
    title: &Title,
    old: Option<&Title>,
    name: &str,
    now: &Scheduler<'_>,
    tools: Option<&super::prepare::Tools>,
) -> Vec<String> {
    let (Some(old), Some(tools)) = (old, tools) else {
        return vec!["the build log knows no earlier build of it that got to its end".to_owned()];
    };
    let named = |title: &Title| title.tracks.iter().position(|track| track.name == name);
    let (Some(track), Some(old_track)) = (named(title), named(old)) else {
        return vec!["the last build had no such track".to_owned()];
    };
    // The pieces aside, all that goes into an encode's key.
    let nothing = Digest([0; 32]);
    let recipe = title.encode_recipe(track, nothing, &now.tools).ok();
    let before = old.encode_recipe(old_track, nothing, tools).ok();
    let fields = compare(recipe.as_ref(), before.as_ref());
    let quoted = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
    let mut reasons: Vec<String> = fields
        .iter()
        .filter(|field| field.differs)
        .map(|field| {
            format!("{}: {}, was {}", field.name, quoted(field.now.as_deref()), quoted(field.last.as_deref()))
        })
        .collect();
    let known: std::collections::HashSet<Digest> =
        old.pieces(old_track).iter().map(|piece| piece.identity).collect();
    let new = title.pieces(track).iter().filter(|piece| !known.contains(&piece.identity)).count();
    if new > 0 {
        let what = if title.tracks[track].rung().is_some() { "pictures" } else { "sound" };
        reasons.push(format!(
            "{new} of {} segments hold {what} that the last build did not have",
            title.pieces(track).len()
        ));
    }
    let choices = old.tracks[old_track].rung().map_or(&[][..], |rung| &rung.choices);
    if reasons.is_empty() && choices.len() > 1 {
        let names: Vec<&str> = choices.iter().map(|choice| choice.settings.encoder.name()).collect();
        reasons.push(format!("the last build had any of {} encode it", names.join(", ")));
    }
    if reasons.is_empty() {
        reasons.push("results of the last build are no longer in the cache".to_owned());
    }
    reasons
}
