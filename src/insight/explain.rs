//! Why a step runs or not: its key taken apart, field by field, beside the last build's. The
//! graph of that build is put together again from its record and the cache; nothing is run for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::outside::{PublishFacts, SourceFacts, publish_facts, source_facts};
use crate::build::engine::{Engine, Settings};
use crate::build::graph::State;
use crate::build::outcome::encode_of;
use crate::build::record::{self, BuildRecord};
use crate::build::{Options, Run, open_engine, open_engine_with, settings};
use crate::cache::{Cache, Tiers};
use crate::spec::{self, Ladder};
use crate::steps::recipe::Recipe;
use crate::steps::source::known_source;
use crate::steps::{Kind, StepError};
use crate::title::ids::ChunkId;

/// One step, taken apart.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub title: String,
    pub node: String,
    pub kind: Kind,
    /// What a step of this kind is, in a few words.
    pub about: &'static str,
    pub verdict: Verdict,
    /// `None` while what the key is made of is not known. The steps `source` and `publish` have none, as their
    /// results lie outside the cache.
    pub key: Option<String>,
    pub fields: Vec<Field>,
    /// The result that lies in the cache under this key.
    pub result: Option<ResultFacts>,
    pub last: Option<LastBuild>,
    /// Of the step `source`.
    pub source: Option<SourceFacts>,
    /// Of the step `publish`.
    pub publish: Option<PublishFacts>,
    /// Steps that it needs, and that need it; neighbours as one.
    pub needs: Vec<String>,
    pub needed_by: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its result is in the cache.
    Cached,
    /// It runs.
    Run,
    /// It needs a step that runs, and is cached if that produces what it did before.
    MayRun,
}

/// A field of a key. `last` is what the last build had, where that is known.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    pub name: String,
    pub now: Option<String>,
    pub last: Option<String>,
    pub differs: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct ResultFacts {
    pub digest: String,
    /// Its blobs: their names in the cache, and their bytes.
    pub blobs: Vec<String>,
    pub bytes: u64,
    /// When it was produced, in seconds since 1970; 0 if unknown.
    pub made_at: u64,
    pub wall_ms: u64,
    /// The encoder and the machine that produced it.
    pub by: String,
}

/// The same step in the last build of this spec.
#[derive(Clone, Debug, Serialize)]
pub struct LastBuild {
    pub build: String,
    /// Seconds since 1970.
    pub started: u64,
    /// `None` if it had no such step, or if the cache no longer has what its key is made of.
    pub key: Option<String>,
    /// The step that had the same content in the last build, if it was another.
    pub moved_from: Option<String>,
}

/// The graph of a build that runs nothing, all steps with nodes of their own. A failure is an error, as
/// what lies behind it is not known then.
pub(crate) fn dry_run_graph<'a>(
    ladder: &'a Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
) -> Result<Engine<'a>, StepError> {
    let settings = Settings { dry_run: true, expand: true, ..settings(options) };
    let mut engine = open_engine(ladder, Arc::clone(cache), settings, Arc::clone(cancelled), &|_| {})?;
    run_whole(&mut engine)?;
    match engine.outcome.failures.first() {
        Some(failure) => Err(StepError::Step { report: failure.to_string(), hint: failure.hint.clone() }),
        None => Ok(engine),
    }
}

/// The graph of an earlier build, as far as the cache still has what it is derived from. Its ladder is parsed from
/// the record by the caller.
pub(crate) fn dry_run_graph_of<'a>(
    record: &BuildRecord,
    ladder: &'a Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
    expand: bool,
) -> Result<Engine<'a>, StepError> {
    let settings = Settings { dry_run: true, expand, sources: Some(record.sources()), ..settings(options) };
    let tools = Some(record.tools.clone());
    let cancelled = Arc::clone(cancelled);
    let mut engine = open_engine_with(ladder, Arc::clone(cache), settings, cancelled, &|_| {}, tools)?;
    run_whole(&mut engine)?;
    Ok(engine)
}

/// Runs to the end; a graph of which a part was not looked at is none.
fn run_whole(engine: &mut Engine<'_>) -> Result<(), StepError> {
    engine.run();
    if engine.outcome.interrupted { Err(StepError::Cancelled) } else { Ok(()) }
}

/// The ladder of an earlier build.
pub(crate) fn ladder_of(record: &BuildRecord) -> Option<Ladder> {
    spec::parse(&record.spec, &record.ladder).ok()
}

/// Explains the steps that `selector` names: a step's name as `rivet build --events` and `rivet
/// graph` tell it (`720p/12`, `decode/3`, `audio/main/4`, `publish`), or the beginning of one
/// (`720p`), with `TITLE:` before it where there are several titles.
pub fn explain(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
    selector: &str,
) -> Result<Vec<Explanation>, StepError> {
    let known: Vec<bool> =
        ladder.titles.iter().map(|title| known_source(cache.local(), &title.source).is_some()).collect();
    let now = dry_run_graph(ladder, cache, options, cancelled)?;
    let chosen = select(&now, selector)?;
    let record = BuildRecord::last_of(cache.local(), ladder, &now.titles)?;
    let last_ladder = record.as_ref().and_then(ladder_of);
    let last = match (&record, &last_ladder) {
        (Some(record), Some(ladder)) => {
            Some((record, dry_run_graph_of(record, ladder, cache, options, cancelled, true)?))
        }
        _ => None,
    };
    let last = last.as_ref().map(|(record, dry_run)| Last { record, dry_run, nodes: names(dry_run) });
    let was_known = |id: NodeIndex| known.get(now.graph[id].title.index()) == Some(&true);
    chosen.into_iter().map(|id| explain_node(&now, id, was_known(id), cache, last.as_ref())).collect()
}

struct Last<'a> {
    record: &'a BuildRecord,
    dry_run: &'a Engine<'a>,
    nodes: HashMap<(String, String), NodeIndex>,
}

/// The nodes that count, by title and name.
fn names(dry_run: &Engine<'_>) -> HashMap<(String, String), NodeIndex> {
    let nodes = dry_run.graph.current().filter(|&id| !dry_run.graph[id].is_skipped());
    let named = nodes.map(|id| {
        let title = &dry_run.titles[dry_run.graph[id].title.index()];
        ((title.name.clone(), dry_run.graph[id].step.label(title)), id)
    });
    named.collect()
}

fn select(dry_run: &Engine<'_>, selector: &str) -> Result<Vec<NodeIndex>, StepError> {
    let names = names(dry_run);
    // A title's name may hold colons, too.
    let after = |title: &'_ str| selector.strip_prefix(title).and_then(|rest| rest.strip_prefix(':'));
    let titles = dry_run.titles.iter().map(|title| title.name.as_str());
    let named = titles.filter_map(|title| Some((title, after(title)?))).max_by_key(|(title, _)| title.len());
    let (title, name) = named.map_or((None, selector), |(title, name)| (Some(title), name));
    let of_title = |of: &str| title.is_none_or(|title| title == of);
    let mut exact: Vec<NodeIndex> =
        names.iter().filter(|((of, node), _)| of_title(of) && node == name).map(|(_, &id)| id).collect();
    if exact.is_empty() {
        let prefix = format!("{name}/");
        exact = names
            .iter()
            .filter(|((of, node), _)| of_title(of) && node.starts_with(&prefix))
            .map(|(_, &id)| id)
            .collect();
    }
    exact.sort();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let unknown = dry_run.titles.iter().any(|title| !title.is_chunked());
    let examples: Vec<String> = dry_run
        .titles
        .first()
        .map(|title| title.tracks.iter().map(|track| format!("{}/1", track.label())).collect())
        .unwrap_or_default();
    let mut message = format!("there is no step {selector}");
    if unknown {
        message.push_str("; a source that was never built has no steps yet but source and index");
    } else if !examples.is_empty() {
        message.push_str(&format!("; there are {}, and others", examples.join(", ")));
    }
    Err(StepError::Selector(message))
}

fn explain_node(
    now: &Engine<'_>,
    id: NodeIndex,
    was_known: bool,
    cache: &Tiers,
    last: Option<&Last<'_>>,
) -> Result<Explanation, StepError> {
    let node = &now.graph[id];
    let title = &now.titles[node.title.index()];
    let label = node.step.label(title);
    let recipe = now.recipe(id);
    let key = recipe.as_ref().map(Recipe::key);
    let last_id = last.and_then(|last| last.nodes.get(&(title.name.clone(), label.clone())).copied());
    let last_recipe = last.zip(last_id).and_then(|(last, id)| last.dry_run.recipe(id));
    let kind = node.step.kind();
    let last_source = last.and_then(|last| last.record.sources().get(&title.name).copied());
    let source = (kind == Kind::Source).then(|| source_facts(cache.local(), title, was_known, last_source));
    let publish = (kind == Kind::Publish).then(|| publish_facts(now, title)).transpose()?;
    let verdict = match node.state() {
        // The dry run has read it, and could not keep its digest.
        _ if source.as_ref().is_some_and(|source| source.must_be_read) => Verdict::Run,
        State::Done { .. } => Verdict::Cached,
        State::MayRun if node.missing == 0 => Verdict::Run,
        _ => Verdict::MayRun,
    };
    let result = match key.map(|key| cache.find_entry(&key)).transpose()?.flatten() {
        Some(entry) => Some(ResultFacts {
            digest: entry.result.digest().to_string(),
            blobs: entry.result.blobs.iter().map(|blob| blob.digest.to_string()).collect(),
            bytes: entry.result.blobs.iter().map(|blob| blob.size).sum(),
            made_at: entry.cost.made_at,
            wall_ms: entry.cost.wall_ms,
            by: entry.cost.by,
        }),
        None => None,
    };
    let last = last.map(|last| LastBuild {
        build: last.record.name.clone(),
        started: last.record.started,
        key: last_recipe.as_ref().map(|recipe| recipe.key().to_string()),
        moved_from: moved_from(now, id, last),
    });
    let has_last = last.is_some();
    let inputs: Vec<NodeIndex> = now.graph.inputs(id).chain(told_by(now, id)).collect();
    let outputs: Vec<NodeIndex> = now.graph.dependents(id).chain(tells_of(now, id)).collect();
    Ok(Explanation {
        title: title.name.clone(),
        node: label,
        kind,
        about: about(kind),
        verdict,
        key: key.map(|key| key.to_string()),
        fields: compare(recipe.as_ref(), last_recipe.as_ref().filter(|_| has_last)),
        result,
        last,
        source,
        publish,
        needs: rows(now, inputs),
        needed_by: rows(now, outputs),
    })
}

/// What a step of a kind is.
fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "the digest of the source file, on which all keys rest",
        Kind::Index => "the tracks of the source, and the spans of its video",
        Kind::Decode => "the frame digests of a span, or the analysis of an audio track",
        Kind::Chunk => "where the source is cut into chunks",
        Kind::Encode => "a chunk, encoded for a rung",
        Kind::Audio => "a window of audio, encoded for a rendition",
        Kind::Mux => "a segment, or an initialization segment",
        Kind::Pack => "one look-up that stands for a run of steps",
        Kind::Contract => "that all chunks of the rung agree in what its track says of them",
        Kind::Playlist => "an HLS playlist",
        Kind::Publish => "the output folder, which is made to hold exactly the title's files",
    }
}

/// The fields of two recipes side by side; a name that occurs more than once is paired in order.
pub(crate) fn compare(now: Option<&Recipe>, last: Option<&Recipe>) -> Vec<Field> {
    let values = |recipe: Option<&Recipe>| -> Vec<(String, String)> {
        let Some(recipe) = recipe else { return Vec::new() };
        let version = ("recipe version".to_owned(), recipe.version().to_string());
        let fields = recipe.fields().iter().map(|(name, value)| ((*name).to_owned(), value.to_string()));
        std::iter::once(version).chain(fields).collect()
    };
    let (now_values, mut last_values) = (values(now), values(last));
    let mut fields: Vec<Field> = Vec::new();
    for (name, value) in now_values {
        let before = last_values.iter().position(|(other, _)| *other == name);
        let before = before.map(|at| last_values.remove(at).1);
        let differs = last.is_some() && before.as_ref() != Some(&value);
        fields.push(Field { name, now: Some(value), last: before, differs });
    }
    for (name, value) in last_values {
        fields.push(Field { name, now: None, last: Some(value), differs: now.is_some() });
    }
    fields
}

/// The step that had the same content in the last build, if it was another.
fn moved_from(now: &Engine<'_>, id: NodeIndex, last: &Last<'_>) -> Option<String> {
    let node = &now.graph[id];
    let title = &now.titles[node.title.index()];
    let (track, place) = title.track_ids().find_map(|track| {
        let places = 0..title.chunks_of(track).len();
        let is_it = |place: &usize| encode_of(title, track, ChunkId::new(*place)) == Some(node.step);
        Some((track, places.into_iter().find(is_it)?))
    })?;
    let identity = title.chunks_of(track).get(place)?.identity;
    let old = last.dry_run.titles.iter().find(|old| old.name == title.name)?;
    let name = &title.track(track)?.name;
    let old_track = old.track_ids().find(|&id| old.track(id).is_some_and(|track| track.name == *name))?;
    let old_place = old.chunks_of(old_track).iter().position(|chunk| chunk.identity == identity)?;
    (old_place != place).then(|| format!("{}/{}", title.tracks[track.index()].label(), old_place + 1))
}

/// Steps that told of this one, and are no inputs of its key.
fn told_by(dry_run: &Engine<'_>, id: NodeIndex) -> Vec<NodeIndex> {
    let node = &dry_run.graph[id];
    let made_from = node.step.made_from(&dry_run.titles[node.title.index()]);
    made_from.into_iter().filter_map(|step| dry_run.graph.find(node.title, step)).collect()
}

/// Steps that this one told of.
fn tells_of(dry_run: &Engine<'_>, id: NodeIndex) -> Vec<NodeIndex> {
    let of = &dry_run.graph[id];
    let told = dry_run.graph.current().filter(|&other| {
        let node = &dry_run.graph[other];
        node.title == of.title && node.step.made_from(&dry_run.titles[node.title.index()]).contains(&of.step)
    });
    told.collect()
}

/// Names of steps, those that follow one another as one: `720p/1-12`.
fn rows(dry_run: &Engine<'_>, nodes: Vec<NodeIndex>) -> Vec<String> {
    let mut runs: Vec<(NodeIndex, Run)> = Vec::new();
    let none = Run { slot: 0, start: std::time::Duration::ZERO, wall: std::time::Duration::ZERO };
    let mut nodes = nodes;
    nodes.sort();
    nodes.dedup();
    runs.extend(nodes.into_iter().map(|id| (id, none)));
    let several = dry_run.titles.len() > 1;
    record::ran(&dry_run.graph, &dry_run.titles, &runs)
        .into_iter()
        .map(|row| if several { format!("{}:{}", row.title, row.nodes) } else { row.nodes })
        .collect()
}
