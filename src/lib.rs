//! rivet compiles a declarative ladder into a graph of cached steps and publishes the stream.
//! Everything that the command line does is here, for other programs; it never prints.
//!
//! ```no_run
//! # use std::sync::{Arc, atomic::AtomicBool};
//! let ladder = rivet::spec::load("ladder.toml".as_ref())?;
//! let cache = rivet::cache::LocalCache::open("/var/cache/rivet".as_ref())?;
//! let cache = Arc::new(rivet::cache::Tiers::from(cache));
//! let options = rivet::graph::Options::default();
//! let summary = rivet::graph::build(&ladder, cache, &options, Arc::new(AtomicBool::new(false)), &|_| {})?;
//! assert!(summary.succeeded());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Modules import downward: `graph`, `spec`, `workers`, `executors`, `package`, `stream`, `media`, `cache`,
//! `nvidia`. `media`, `stream` and `package` know nothing of keys, caches or nodes; `cache` and `nvidia` know
//! nothing of films. `suggest` finds the word that somebody meant, for all of them.

pub mod cache;
pub mod executors;
pub mod graph;
pub mod media;
#[cfg(feature = "nvidia")]
pub mod nvidia;
pub mod package;
pub mod spec;
pub mod stream;
pub mod workers;

mod suggest;
