//! rivet compiles a declarative ladder into a graph of cached steps and publishes the stream.
//! Everything that the command line does is here, for other programs; it never prints.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use rivet::{BuildOptions, Event, Session, SessionOptions};
//!
//! let ladder = rivet::load("ladder.toml".as_ref())?;
//! let session = Session::open(&ladder, SessionOptions::default())?;
//! let observe = |event: &Event| {
//!     if let Event::Warning { message, .. } = event {
//!         eprintln!("warning: {message}");
//!     }
//! };
//! let summary = session.build(&ladder, &BuildOptions::default(), Arc::default(), &observe)?;
//! for title in &summary.titles {
//!     println!("{}", title.entry);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Session`] is the one way to a cache for builds: it decides whose results count, and keeps apart what
//! only a spec vouches for. [`Session::plan`] and [`Session::explain`] tell what a build would do and why, and
//! a [`Budget`] lets builds of one process share the machine.
//!
//! Modules import downward: `session`, `graph`, `spec`, `workers`, `executors`, `package`, `media`, `cache`,
//! `nvidia`. `media` and `package` know nothing of keys, caches or steps; `cache` and `nvidia` know nothing of
//! video. `suggest` finds the word that somebody meant, for all of them.

mod cache;
mod executors;
mod graph;
mod media;
#[cfg(feature = "nvidia")]
mod nvidia;
mod package;
mod session;
pub mod spec;
mod suggest;
mod workers;

use std::path::Path;

pub use cache::remote::{RemoteError, RemoteFault, RemoteUrl, UrlError};
pub use cache::{CacheError, Carried, RemoteReport};
pub use graph::{
    BuildRecord, Check, Counts, Difference, EncodeWork, Ending, Event, Explanation, FailureReport, Field,
    GraphView, Kind, KindPlan, LastBuild, NodeState, NodeView, Origin, PathRecord, Plan, RanRecord,
    ResultFacts, Run, StepError, Summary, TitlePlan, TitleRecord, TitleSummary, TrackPlan, TrackSummary,
    Verdict,
};
pub use session::{
    Access, Budget, BuildOptions, MissingStep, Pinned, RemoteChoice, Session, SessionError, SessionOptions,
    Share, Transfer, Workers,
};
pub use spec::{Ladder, LoadError, SpecErrors};
pub use workers::{WorkerCommand, serve as serve_worker};

/// Reads and checks the ladder at `path`, encoders' options included.
pub fn load(path: &Path) -> Result<Ladder, LoadError> {
    spec::load_with(path, &graph::option_faults)
}

/// Keys that sign what builds put into shared caches, and those that are trusted.
pub mod keys {
    pub use crate::cache::trust::{
        KeyError, KeyFolder, PublicKey, SIGNING_KEY_VARIABLE, SigningKey, Trust, TrustError, variable,
    };
}

/// Looking after caches: what they hold, cleaning, verifying, pins.
pub mod housekeeping {
    pub use crate::cache::{
        AgeStats, CacheStats, Collected, Damage, FileKind, GcRules, GroupStats, Parts, Pin, PinnedTitle,
        Tally, Verified,
    };
    pub use crate::session::Housekeeping;
}

/// What this machine encodes and decodes with.
pub mod machine {
    pub use crate::executors::{
        Blame, EncodeJob, EncodedChunk, Executor, Failure, Found, Report, Unusable, Wanted, found_here,
        smallest_side,
    };
    pub use crate::media::{
        GpuCodec, GpuDecoder, decodable_codecs, decoder_library, gpu_decoders, opus_library,
    };
}

/// What is in a source file.
pub mod source {
    pub use crate::media::{AudioTrack, MediaError, VideoTrack, probe};
}

/// The parts, for this crate's own tests and benchmarks. Nothing is promised of them: caches that are opened
/// here keep nothing apart.
#[doc(hidden)]
pub mod testing {
    pub mod cache {
        pub use crate::cache::*;
    }
    pub mod executors {
        pub use crate::executors::*;
    }
    pub mod graph {
        pub use crate::graph::*;
    }
    pub mod media {
        pub use crate::media::*;
    }
    #[cfg(feature = "nvidia")]
    pub mod nvidia {
        pub use crate::nvidia::*;
    }
    pub mod package {
        pub use crate::package::*;
    }
    pub mod workers {
        pub use crate::workers::*;
    }
}
