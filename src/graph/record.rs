//! What the build log says of a build: enough to list it, and enough to look at its graph again,
//! out of the cache, long after its source has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use crate::cache::{Digest, LocalCache};
use crate::spec::Ladder;

use super::error::StepError;
use super::event::{Counts, FailureReport, Kind, Run, Summary};
use super::prepare::Tools;
use super::scheduler::Scheduler;
use super::step::Step;
use super::title::{Graph, Title};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildRecord {
    /// The record's name in the log; not part of the record itself.
    #[serde(skip)]
    pub name: String,
    /// rivet's version.
    pub rivet: String,
    /// Seconds since 1970.
    pub started: u64,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub host: String,
    pub ladder: PathBuf,
    /// The spec's text at the time.
    pub spec: String,
    pub ending: Ending,
    pub titles: Vec<TitleRecord>,
    pub nodes: BTreeMap<Kind, Counts>,
    /// What went wrong.
    #[serde(default)]
    pub failures: Vec<FailureReport>,
    /// What ran, runs of neighbours as one.
    pub ran: Vec<RanRecord>,
    /// The steps, from first to last, that the build could not have been shorter than: each needed
    /// the one before it.
    pub longest_path: Vec<PathRecord>,
    pub(super) tools: Tools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    Done,
    Failed,
    Interrupted,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Failed => "failed",
            Ending::Interrupted => "interrupted",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TitleRecord {
    pub name: String,
    pub source: PathBuf,
    /// BLAKE3 of the source; `None` if it could not be read.
    pub digest: Option<String>,
}

/// Steps of one kind that ran, on one track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanRecord {
    pub title: String,
    pub kind: Kind,
    /// A step's name, or the first's and last's of a run of neighbours: `720p/3-5`.
    pub nodes: String,
    pub steps: u64,
    /// Of all of them together.
    pub wall_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRecord {
    pub title: String,
    pub kind: Kind,
    pub node: String,
    pub wall_ms: u64,
}

pub(super) fn keep(
    cache: &LocalCache,
    ladder: &Ladder,
    scheduler: &Scheduler<'_>,
    runs: &[(NodeIndex, Run)],
    summary: &Summary,
    started: SystemTime,
) -> Result<(), StepError> {
    let titles = scheduler.titles.iter().map(|title| TitleRecord {
        name: title.name.clone(),
        source: title.source.clone(),
        digest: title.digest.map(|digest| digest.to_string()),
    });
    let record = BuildRecord {
        name: String::new(),
        rivet: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        wall_seconds: summary.wall_seconds,
        cpu_seconds: summary.cpu_seconds,
        host: super::limits::host_name(),
        ladder: ladder.path.clone(),
        spec: ladder.text.clone(),
        ending: match (summary.interrupted, summary.failures.is_empty()) {
            (true, _) => Ending::Interrupted,
            (false, true) => Ending::Done,
            (false, false) => Ending::Failed,
        },
        titles: titles.collect(),
        nodes: summary.nodes.clone(),
        failures: summary.failures.clone(),
        ran: ran(&scheduler.graph, &scheduler.titles, runs),
        longest_path: longest_path(&scheduler.graph, &scheduler.titles, runs),
        tools: scheduler.tools.clone(),
    };
    let bytes = serde_json::to_vec_pretty(&record).map_err(StepError::internal)?;
    cache.append_log(started, &bytes)?;
    Ok(())
}

impl BuildRecord {
    /// The records of some caches whose names end with `end`, which may be nothing, the newest first. They
    /// are read when they are come to, and left out where they cannot be.
    pub fn all<'a>(
        caches: &[&'a LocalCache],
        end: &str,
    ) -> Result<impl Iterator<Item = BuildRecord> + use<'a>, StepError> {
        let mut names: Vec<(String, &LocalCache)> = Vec::new();
        for &cache in caches {
            let wanted = cache.log_names()?.into_iter().filter(|name| name.ends_with(end));
            names.extend(wanted.map(|name| (name, cache)));
        }
        // They begin with the time.
        names.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(names.into_iter().filter_map(|(name, cache)| BuildRecord::named(cache, name)))
    }

    fn named(cache: &LocalCache, name: String) -> Option<BuildRecord> {
        let record: BuildRecord = serde_json::from_slice(&cache.log_record(&name)?).ok()?;
        Some(BuildRecord { name, ..record })
    }

    /// The last build of a spec that got to its end; in a copy of the project, of a spec with the
    /// same titles.
    pub fn last_of(cache: &LocalCache, ladder: &Ladder) -> Result<Option<BuildRecord>, StepError> {
        let titles = |record: &BuildRecord| -> Vec<String> {
            record.titles.iter().map(|title| title.name.clone()).collect()
        };
        let ours: Vec<String> = ladder.titles.iter().map(|title| title.name.clone()).collect();
        let mut alike = None;
        for record in BuildRecord::all(&[cache], "")?.filter(|record| record.ending == Ending::Done) {
            if record.ladder == ladder.path {
                return Ok(Some(record));
            }
            if alike.is_none() && titles(&record) == ours {
                alike = Some(record);
            }
        }
        Ok(alike)
    }

    /// The digests of the sources at the time, by title.
    pub(super) fn sources(&self) -> HashMap<String, Digest> {
        let known = self
            .titles
            .iter()
            .filter_map(|title| Some((title.name.clone(), title.digest.as_ref()?.parse::<Digest>().ok()?)));
        known.collect()
    }
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// The stage and the number of a row of neighbouring steps, and a step's place in it.
type Row = (u8, usize, Option<usize>);

/// What ran, in order of title, kind and place; pieces that follow one another as one entry.
pub(super) fn ran(graph: &Graph, titles: &[Title], runs: &[(NodeIndex, Run)]) -> Vec<RanRecord> {
    /// A step's place in its row of neighbours, and the row.
    fn row(step: Step) -> Row {
        match step {
            Step::DecodeSpan { span } => (step.stage(), 0, Some(span)),
            Step::SpanReel { reel } => (step.stage(), 0, Some(reel)),
            Step::Encode { track, piece } | Step::Audio { track, piece } | Step::Segment { track, piece } => {
                (step.stage(), track, Some(piece))
            }
            Step::Reel { track, reel } => (step.stage(), track, Some(reel)),
            Step::Contract { track } | Step::Init { track } | Step::Playlist { track } => {
                (step.stage(), track, None)
            }
            Step::DecodeSound { sound } => (step.stage(), sound, None),
            _ => (step.stage(), 0, None),
        }
    }
    let mut sorted: Vec<(usize, Step, Duration)> =
        runs.iter().map(|&(id, run)| (graph[id].title, graph[id].step, run.wall)).collect();
    sorted.sort_by_key(|&(title, step, _)| (title, row(step)));
    let mut records: Vec<RanRecord> = Vec::new();
    let mut before: Option<(usize, Row)> = None;
    let mut first = String::new();
    for (title, step, wall) in sorted {
        let (stage, track, place) = row(step);
        let label = titles[title].label(step);
        let follows = place
            .and_then(|place| place.checked_sub(1))
            .is_some_and(|previous| before == Some((title, (stage, track, Some(previous)))));
        match records.last_mut() {
            Some(record) if follows => {
                record.steps += 1;
                record.wall_ms += millis(wall);
                record.nodes = range_label(&first, place.map_or(0, |place| place + 1));
            }
            _ => {
                first.clone_from(&label);
                records.push(RanRecord {
                    title: titles[title].name.clone(),
                    kind: step.kind(),
                    nodes: label,
                    steps: 1,
                    wall_ms: millis(wall),
                });
            }
        }
        before = Some((title, (stage, track, place)));
    }
    records
}

/// `720p/3/mux` and 5: `720p/3-5/mux`.
fn range_label(first: &str, last: usize) -> String {
    let numbered = first.rsplitn(2, '/').collect::<Vec<_>>();
    match numbered.as_slice() {
        [number, rest] if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{rest}/{number}-{last}")
        }
        [end, rest] => format!("{}/{end}", range_label(rest, last)),
        _ => first.to_owned(),
    }
}

/// The chain of steps, each needing the one before it, that took longest in all.
fn longest_path(graph: &Graph, titles: &[Title], runs: &[(NodeIndex, Run)]) -> Vec<PathRecord> {
    let walls: HashMap<NodeIndex, Duration> = runs.iter().map(|&(id, run)| (id, run.wall)).collect();
    let mut order: Vec<NodeIndex> = walls.keys().copied().collect();
    order.sort_by_key(|&id| (graph[id].step.stage(), id));
    let mut best: HashMap<NodeIndex, (Duration, Option<NodeIndex>)> = HashMap::new();
    let spans: Vec<Vec<u64>> = titles.iter().map(Title::span_ends).collect();
    for &id in &order {
        let mut longest: (Duration, Option<NodeIndex>) = (Duration::ZERO, None);
        let mut consider = |input: NodeIndex| {
            if let Some(&(length, _)) = best.get(&input)
                && length > longest.0
            {
                longest = (length, Some(input));
            }
        };
        graph.neighbors_directed(id, Direction::Incoming).for_each(&mut consider);
        let node = &graph[id];
        titles[node.title].sources_of(node.step, &spans[node.title]).for_each(&mut consider);
        best.insert(id, (longest.0 + walls[&id], longest.1));
    }
    let last = order.iter().copied().max_by_key(|id| (best[id].0, *id));
    let mut path: Vec<PathRecord> = std::iter::successors(last, |id| best[id].1)
        .map(|id| {
            let title = &titles[graph[id].title];
            let step = graph[id].step;
            PathRecord {
                title: title.name.clone(),
                kind: step.kind(),
                node: title.label(step),
                wall_ms: millis(walls[&id]),
            }
        })
        .collect();
    path.reverse();
    path
}

impl Title {
    /// The number of the first frame after each span.
    pub(super) fn span_ends(&self) -> Vec<u64> {
        let frames = self.timing.as_ref().map_or(&[][..], |timing| &timing.span_frames);
        let ends = frames.iter().scan(0u64, |end, &frames| {
            *end += u64::from(frames);
            Some(*end)
        });
        ends.collect()
    }

    /// The decode steps that a piece is made from: they told of it, but are no inputs to its key.
    /// `ends` are `span_ends`.
    pub(super) fn sources_of<'a>(&'a self, step: Step, ends: &[u64]) -> impl Iterator<Item = NodeIndex> + 'a {
        let range = match step {
            Step::Encode { piece, .. } => self.chunks.get(piece).map(|chunk| {
                let end = chunk.first + u64::from(chunk.frames);
                let first = ends.partition_point(|&end| end <= chunk.first);
                first..ends.partition_point(|&span_end| span_end < end) + 1
            }),
            _ => None,
        };
        let decode = range.and_then(|range| self.decode.get(range.start..range.end.min(self.decode.len())));
        let sound = match step {
            Step::Audio { track, .. } => self.rendition(track).ok().map(|(_, sound)| sound.node),
            _ => None,
        };
        decode.unwrap_or_default().iter().flatten().copied().chain(sound)
    }
}
