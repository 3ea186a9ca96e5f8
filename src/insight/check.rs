//! Builds again in a cache of its own, to check that the same steps produce the same bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::cache::{Cache, EntryKey, Tiers};
use crate::spec::Ladder;

use crate::build::engine::Settings;
use crate::build::{Event, FailureReport, Options, open_engine, settings};
use crate::steps::{Kind, StepError};

/// Keys that are asked for together.
const BATCH: usize = 256;

/// What a second build found.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Steps whose results were compared.
    pub compared: u64,
    /// Steps with the same key and another result, those nearest the source first.
    pub differences: Vec<Difference>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub title: String,
    pub kind: Kind,
    pub node: String,
    pub key: String,
    /// Digests of the result in the cache, and of the one of this check.
    pub cached: String,
    pub again: String,
}

/// Builds every step of the ladder again, in a cache of its own that goes away afterwards, and
/// compares each result with the one in `cache`. Publishes nothing.
pub fn check(
    ladder: &Ladder,
    cache: &Tiers,
    options: &Options,
    cancelled: Arc<AtomicBool>,
    observe: &dyn Fn(&Event),
) -> Result<Check, StepError> {
    let (_folder, fresh) = cache.local().scratch_dir()?;
    let settings = Settings { unpublished: true, ..settings(options) };
    let mut engine = open_engine(ladder, Arc::new(Tiers::from(fresh)), settings, cancelled, observe)?;
    engine.run();
    let mut nodes: Vec<_> = engine.graph.current().collect();
    nodes.sort_by_key(|&id| (engine.graph[id].step.order(), id));
    let mut check = Check {
        compared: 0,
        differences: Vec::new(),
        failures: std::mem::take(&mut engine.outcome.failures),
        interrupted: engine.outcome.interrupted,
    };
    let keys: Vec<EntryKey> = nodes.iter().filter_map(|&id| engine.graph[id].key).collect();
    for batch in keys.chunks(BATCH) {
        cache.look_ahead(batch)?;
    }
    for id in nodes {
        let node = &engine.graph[id];
        let (Some(result), Some(key)) = (node.result(), node.key) else { continue };
        // Where the cache has no such key, an input was different already.
        let Some(entry) = cache.find_entry(&key)? else { continue };
        check.compared += 1;
        if entry.result.digest() != result.digest() {
            let title = &engine.titles[node.title.index()];
            check.differences.push(Difference {
                title: title.name.clone(),
                kind: node.step.kind(),
                node: node.step.label(title),
                key: key.to_string(),
                cached: entry.result.digest().to_string(),
                again: result.digest().to_string(),
            });
        }
    }
    Ok(check)
}
