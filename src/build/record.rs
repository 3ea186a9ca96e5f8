//! The record of a build in the build log: enough to list it, and enough to derive its graph again from the
//! cache, long after its source has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::event::{Counts, FailureReport, Origin, Run, Summary};
use super::graph::{Node, State, StepGraph};
use crate::cache::{Digest, LocalCache};
use crate::spec::Ladder;
use crate::steps::tools::Tools;
use crate::steps::{Kind, Step, StepError, counts};
use crate::title::Title;

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
    /// The chain of steps, each needing the one before it, that took longest in all. Records of rivet 0.1.0
    /// call it the longest path.
    #[serde(alias = "longest_path")]
    pub critical_path: Vec<PathRecord>,
    pub(crate) tools: Tools,
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
    /// Whether the build published it, or found it up to date.
    #[serde(default)]
    pub published: bool,
    /// Whether all of its chunks were known when the build ended. If not, more steps were to come.
    #[serde(default)]
    pub exact: bool,
    /// Its steps when the build ended, so far as they were known by then; none of a title that was found up to
    /// date as a whole.
    #[serde(default)]
    pub steps: BTreeMap<Kind, StepsRecord>,
}

/// How far the steps of one kind were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsRecord {
    /// They ran, or were cached.
    pub done: u64,
    pub left: u64,
    pub failed: u64,
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

pub(crate) fn keep(
    cache: &LocalCache,
    ladder: &Ladder,
    engine: &Engine<'_>,
    runs: &[(NodeIndex, Run)],
    summary: &Summary,
    started: SystemTime,
) -> Result<(), StepError> {
    let titles = engine.titles.iter().zip(steps_of_titles(engine)).map(|(title, steps)| TitleRecord {
        name: title.name.clone(),
        source: title.source.clone(),
        digest: title.digest.map(|digest| digest.to_string()),
        published: summary.titles.iter().any(|published| published.name == title.name),
        exact: engine.reused.contains(&title.id) || title.has_package(),
        steps,
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
        ran: ran(&engine.graph, &engine.titles, runs),
        critical_path: critical_path(&engine.graph, &engine.titles, runs),
        tools: engine.tools.clone(),
    };
    let bytes = serde_json::to_vec_pretty(&record).map_err(StepError::internal)?;
    cache.append_log(started, &bytes)?;
    Ok(())
}

impl BuildRecord {
    /// The records of some caches whose names end with `end`, which may be nothing, the newest first. They
    /// are read one by one as the iterator gets to them; those that cannot be read are left out.
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

    /// The build that a plan or an explanation compares with: the newest finished build of the spec at this
    /// path. Where the log has none, the newest finished build of a copy of the project, as another checkout
    /// has it: of a spec
    ///
    /// - with the very same text, or
    /// - in a file of the same name, with titles of the same names, whose sources had the same digests as
    ///   `titles` have now.
    ///
    /// A build of another spec is never taken: that a title has the same name says nothing.
    pub(crate) fn last_of(
        cache: &LocalCache,
        ladder: &Ladder,
        titles: &[Title],
    ) -> Result<Option<BuildRecord>, StepError> {
        let mut copy = None;
        for record in BuildRecord::all(&[cache], "")?.filter(|record| record.ending == Ending::Done) {
            if record.ladder == ladder.path {
                return Ok(Some(record));
            }
            if copy.is_none() && record.is_of_copy(ladder, titles) {
                copy = Some(record);
            }
        }
        Ok(copy)
    }

    /// Whether this is a build of a copy of the project: see [`BuildRecord::last_of`].
    fn is_of_copy(&self, ladder: &Ladder, titles: &[Title]) -> bool {
        let same = |(before, now): (&TitleRecord, &Title)| {
            let digest = now.digest.map(|digest| digest.to_string());
            before.name == now.name && digest.is_some() && before.digest == digest
        };
        let same_titles = || self.titles.len() == titles.len() && self.titles.iter().zip(titles).all(same);
        self.spec == ladder.text || (self.ladder.file_name() == ladder.path.file_name() && same_titles())
    }

    /// The digests of the sources at the time, by title.
    pub(crate) fn sources(&self) -> HashMap<String, Digest> {
        let known = self
            .titles
            .iter()
            .filter_map(|title| Some((title.name.clone(), title.digest.as_ref()?.parse::<Digest>().ok()?)));
        known.collect()
    }
}

/// Of each title, how far its steps are. Those that a pack stands for count like others.
fn steps_of_titles(engine: &Engine<'_>) -> Vec<BTreeMap<Kind, StepsRecord>> {
    let mut titles: Vec<BTreeMap<Kind, StepsRecord>> = vec![BTreeMap::new(); engine.titles.len()];
    for id in engine.graph.current() {
        let Node { title, step, .. } = engine.graph[id];
        let Some(steps) = titles.get_mut(title.index()) else { continue };
        match engine.graph[id].state() {
            State::Done { origin, .. } => {
                steps.entry(step.kind()).or_default().done += 1;
                let pack = if *origin == Origin::Cached { engine.stands_for(title, step) } else { None };
                for (kind, count) in pack.into_iter().flat_map(|pack| pack.steps) {
                    steps.entry(kind).or_default().done += count;
                }
            }
            State::Failed => steps.entry(step.kind()).or_default().failed += 1,
            _ => {}
        }
    }
    for (title, steps) in engine.titles.iter().zip(&mut titles) {
        if engine.reused.contains(&title.id) {
            steps.clear();
            continue;
        }
        for (kind, count) in counts(title) {
            let of_kind = steps.entry(kind).or_default();
            of_kind.left = count.saturating_sub(of_kind.done + of_kind.failed);
        }
        steps.retain(|_, of_kind| *of_kind != StepsRecord::default());
    }
    titles
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// A row of neighbouring steps, and a step's position in it.
type Row = (u8, usize, Option<usize>);

/// What ran, in order of title, kind and place; steps that follow one another as one entry.
pub(crate) fn ran(graph: &StepGraph, titles: &[Title], runs: &[(NodeIndex, Run)]) -> Vec<RanRecord> {
    let mut sorted: Vec<(usize, Step, Duration)> =
        runs.iter().map(|&(id, run)| (graph[id].title.index(), graph[id].step, run.wall)).collect();
    sorted.sort_by_key(|&(title, step, _)| (title, step.row()));
    let mut records: Vec<RanRecord> = Vec::new();
    let mut before: Option<(usize, Row)> = None;
    let mut first = String::new();
    for (title, step, wall) in sorted {
        let (kind, row, place) = step.row();
        let label = step.label(&titles[title]);
        let follows = place
            .and_then(|place| place.checked_sub(1))
            .is_some_and(|previous| before == Some((title, (kind, row, Some(previous)))));
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
        before = Some((title, (kind, row, place)));
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

/// The critical path: the chain of steps, each needing the one before it, that took longest in all.
fn critical_path(graph: &StepGraph, titles: &[Title], runs: &[(NodeIndex, Run)]) -> Vec<PathRecord> {
    let walls: HashMap<NodeIndex, Duration> = runs.iter().map(|&(id, run)| (id, run.wall)).collect();
    let mut order: Vec<NodeIndex> = walls.keys().copied().collect();
    order.sort_by_key(|&id| (graph[id].step.order(), id));
    let mut best: HashMap<NodeIndex, (Duration, Option<NodeIndex>)> = HashMap::new();
    for &id in &order {
        let mut longest: (Duration, Option<NodeIndex>) = (Duration::ZERO, None);
        let mut consider = |input: NodeIndex| {
            if let Some(&(length, _)) = best.get(&input)
                && length > longest.0
            {
                longest = (length, Some(input));
            }
        };
        graph.inputs(id).for_each(&mut consider);
        let node = &graph[id];
        let made_from = node.step.made_from(&titles[node.title.index()]);
        made_from.into_iter().filter_map(|step| graph.find(node.title, step)).for_each(&mut consider);
        best.insert(id, (longest.0 + walls[&id], longest.1));
    }
    let last = order.iter().copied().max_by_key(|id| (best[id].0, *id));
    let mut path: Vec<PathRecord> = std::iter::successors(last, |id| best[id].1)
        .map(|id| {
            let (title, step) = (&titles[graph[id].title.index()], graph[id].step);
            PathRecord {
                title: title.name.clone(),
                kind: step.kind(),
                node: step.label(title),
                wall_ms: millis(walls[&id]),
            }
        })
        .collect();
    path.reverse();
    path
}
