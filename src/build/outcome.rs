//! What came of a build, or would come of it: counts, titles, failures.

use std::collections::HashMap;

use petgraph::graph::NodeIndex;

use super::engine::Engine;
use super::event::{Counts, Event, FailureReport, Run, TitleSummary, TrackSummary};
use super::title_cache::{self, CachedTitle};
use super::title_plan::{TitlePlan, TrackPlan};
use crate::cache::EntryKey;
use crate::steps::segments::Segments;
use crate::steps::{ENTRY, EncodeChunk, EncodeWindow, Kind, Packing, Step, StepError};
use crate::stream;
use crate::title::Title;
use crate::title::ids::{ChunkId, TitleId, TrackId};
use crate::title::track::Medium;

/// One of the counts of steps by kind.
pub type CountOf = fn(&mut Outcome) -> &mut HashMap<Kind, u64>;

/// What came of it all.
#[derive(Default)]
pub struct Outcome {
    pub counts: HashMap<Kind, Counts>,
    /// In a dry run, how many steps of a kind would run, as nothing lies under their keys.
    pub would_run: HashMap<Kind, u64>,
    /// And how many depend on one that would run, so that their keys are not known.
    pub follows: HashMap<Kind, u64>,
    pub titles: Vec<TitlePlan>,
    /// Of those that were published.
    pub summaries: Vec<TitleSummary>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
    /// Spans that GPUs decoded.
    pub spans_on_gpus: u64,
    /// The steps that ran, in the order in which they ended.
    pub runs: Vec<(NodeIndex, Run)>,
}

impl Engine<'_> {
    /// Takes over what an earlier build of the same title published.
    pub(super) fn reuse(&mut self, title: TitleId, cached: &CachedTitle) {
        for (kind, steps) in &cached.steps {
            if *kind != Kind::Source {
                self.outcome.counts.entry(*kind).or_default().cached += steps;
            }
        }
        let summary = cached.summary_for(&self.titles[title.index()]);
        let tracks = summary.rungs.iter().chain(&summary.audio).map(|track| TrackPlan {
            name: track.name.clone(),
            size: track.size,
            segments: track.segments,
            to_encode: 0,
            seconds_to_encode: 0.0,
            which: Vec::new(),
            why: Vec::new(),
        });
        self.outcome.titles.push(TitlePlan {
            name: summary.name.clone(),
            exact: true,
            up_to_date: true,
            seconds: summary.seconds,
            tracks: tracks.collect(),
        });
        self.outcome.summaries.push(summary);
    }

    pub(super) fn published(&mut self, id: TitleId) -> Result<(), StepError> {
        let title = &self.titles[id.index()];
        let summary = self.summary(title)?;
        if !self.settings.unpublished
            && !self.settings.expand
            && let (Some(digest), Some(files)) = (title.digest, self.live[id.index()].files())
        {
            let cached = CachedTitle::new(title, &files, summary.clone(), &self.tools);
            let inputs = self.keys_of_title(id);
            title_cache::store(&self.context, self.ladder, digest, &self.tools, &cached, inputs)?;
        }
        for message in above_their_levels(title, &summary) {
            self.tell(Event::Warning { title: title.name.clone(), message });
        }
        let plan = self.title_plan(id);
        self.outcome.titles.push(TitlePlan { up_to_date: true, ..plan });
        self.outcome.summaries.push(summary);
        Ok(())
    }

    /// The keys of all that a title is made of, but for what packs stand for: they tell of it. What was
    /// withdrawn is among them, if it had run: it is kept a little longer for that, and no more.
    fn keys_of_title(&self, title: TitleId) -> Vec<EntryKey> {
        let of = &self.titles[title.index()];
        let nodes = self.graph.ids().map(|id| &self.graph[id]);
        let is_part = |step: Step| !matches!(step.packing(of), Packing::InPack);
        nodes
            .filter(|node| node.title == title && node.result().is_some() && is_part(node.step))
            .filter_map(|node| node.key)
            .collect()
    }

    /// What was published, for the closing summary.
    fn summary(&self, title: &Title) -> Result<TitleSummary, StepError> {
        let target = title.target_duration();
        let mut rungs = Vec::new();
        let mut audio = Vec::new();
        for id in title.track_ids() {
            let track = title.track(id).ok_or_else(StepError::early)?;
            let segments = Segments::of(title, id)?;
            let bandwidth = segments.bandwidth(target);
            let ran = (0..segments.files.len()).filter(|&chunk| {
                let encode = encode_of(title, id, ChunkId::new(chunk));
                encode.and_then(|step| self.graph.get(title.id, step)).is_some_and(|node| node.has_run())
            });
            let stream::Track { medium, codecs, .. } = title.described(id).ok_or_else(StepError::early)?;
            let size = match medium {
                stream::Medium::Video { width, height, .. } => Some((width, height)),
                stream::Medium::Audio { .. } => None,
            };
            let made = TrackSummary {
                name: track.name.clone(),
                size,
                codecs,
                segments: segments.files.len() as u64,
                encoded: ran.count() as u64,
                bytes: segments.files.iter().map(|file| file.size).sum(),
                average: bandwidth.average,
                peak: bandwidth.peak,
            };
            if track.rung().is_some() { rungs.push(made) } else { audio.push(made) }
        }
        let entry = title.output.join(ENTRY).display().to_string();
        Ok(TitleSummary { name: title.name.clone(), entry, seconds: title.seconds(), rungs, audio })
    }

    /// What is known of a title by now.
    fn title_plan(&self, id: TitleId) -> TitlePlan {
        let title = &self.titles[id.index()];
        let tracks = title.track_ids().filter_map(|track| Some((track, title.track(track)?)));
        let tracks = tracks.map(|(id, track)| {
            let size = track.rung().map(|rung| (rung.picture.width, rung.picture.height));
            let mut which: Vec<(u64, u64)> = Vec::new();
            let mut ticks = 0;
            for (place, chunk) in title.chunks_of(id).iter().enumerate() {
                let encode = encode_of(title, id, ChunkId::new(place));
                let node = encode.and_then(|step| self.graph.get(title.id, step));
                if !node.is_some_and(|node| node.may_run()) {
                    continue;
                }
                ticks += chunk.duration();
                let place = place as u64 + 1;
                match which.last_mut() {
                    Some((_, last)) if *last + 1 == place => *last = place,
                    _ => which.push((place, place)),
                }
            }
            TrackPlan {
                name: track.name.clone(),
                size,
                segments: title.chunks_of(id).len() as u64,
                to_encode: which.iter().map(|(first, last)| last - first + 1).sum(),
                seconds_to_encode: ticks as f64 / f64::from(title.timescale(id).max(1)),
                which,
                why: Vec::new(),
            }
        });
        TitlePlan {
            name: title.name.clone(),
            exact: title.has_package(),
            up_to_date: false,
            seconds: title.seconds(),
            tracks: tracks.collect(),
        }
    }

    /// Adds what is known of titles that did not get to the end.
    pub(super) fn close(&mut self) {
        for title in 0..self.titles.len() {
            let name = &self.titles[title].name;
            if !self.outcome.titles.iter().any(|done| done.name == *name) {
                let plan = self.title_plan(TitleId::new(title));
                self.outcome.titles.push(plan);
            }
        }
        let order = |name: &str| self.ladder.titles.iter().position(|title| title.name == name);
        self.outcome.titles.sort_by_key(|title| order(&title.name));
        self.outcome.summaries.sort_by_key(|title| order(&title.name));
    }
}

/// The step that encodes a chunk of a rung, or a window of a rendition.
pub(crate) fn encode_of(title: &Title, track: TrackId, chunk: ChunkId) -> Option<Step> {
    Some(match title.track(track)?.medium {
        Medium::Video(_) => EncodeChunk { track, chunk }.into(),
        Medium::Audio(_) => EncodeWindow { track, window: chunk }.into(),
    })
}

/// Warnings for rungs whose busiest stretch has more bits than their level allows. At constant
/// quality that is not known before they are encoded, when the level is agreed on.
fn above_their_levels(title: &Title, summary: &TitleSummary) -> Vec<String> {
    let mbits = |bits: u64| format!("{:.1} Mbit/s", bits as f64 / 1e6);
    let rungs = title.tracks.iter().filter_map(|track| track.rung()).zip(&summary.rungs);
    let above = rungs.filter_map(|(rung, made)| {
        let limit = rung.contract.bit_rate_limit()?;
        (made.peak > limit.bits).then(|| {
            format!(
                "rung {}: its busiest stretch has {}, more than the {} that {} allows, which is \
                 that of its size and rate; decoders in hardware may not keep up: raise its `crf`",
                made.name,
                mbits(made.peak),
                mbits(limit.bits),
                limit.level
            )
        })
    });
    above.collect()
}
