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
//! Modules import downward: `session`, `insight`, `build`, `steps`, `title`, `workers`, `executors`, `package`,
//! `stream`, `media`, `nvidia`, `cache`, `spec`. `package`, `stream` and `media` know nothing of keys, caches or steps; `cache` and
//! `nvidia` know nothing of video. `suggest` finds the word that somebody meant, and `colour` has the code points
//! of H.273, for all of them.

mod build;
mod cache;
mod colour;
mod executors;
mod insight;
mod media;
mod notices;
#[cfg(feature = "nvidia")]
mod nvidia;
mod package;
mod session;
pub mod spec;
mod steps;
mod stream;
mod suggest;
mod title;
mod workers;

use std::path::Path;

pub use build::{
    BuildRecord, Counts, EncodeWork, Ending, Event, FailureReport, Kind, Origin, PathRecord, RanRecord, Run,
    StandsFor, StepError, StepsRecord, Summary, TitlePlan, TitleRecord, TitleSummary, TrackPlan,
    TrackSummary,
};
pub use cache::remote::{RemoteError, RemoteFault, RemoteUrl, UrlError};
pub use cache::{CacheError, RemoteReport, TransferStats};
pub use insight::{
    Check, ComparedBuild, Difference, Explanation, Field, FileNames, GraphView, KindPlan, LastBuild,
    NodeState, NodeView, Plan, PublishChanges, PublishFacts, ResultFacts, SourceFacts, Verdict,
};
pub use session::{
    Access, Budget, BuildOptions, MissingStep, Pinned, RemoteChoice, Session, SessionError, SessionOptions,
    Share, Transfer, Workers,
};
pub use spec::{Ladder, LoadError, SpecErrors};
pub use workers::{WorkerCommand, serve as serve_worker};

/// Reads and checks the ladder at `path`, encoders' options included.
pub fn load(path: &Path) -> Result<Ladder, LoadError> {
    spec::load_with(path, &title::rung::option_faults)
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
        EncodeJob, EncodedChunk, Executor, Failure, FailureKind, Found, Unusable, Wanted, found_here,
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
    pub mod build {
        pub use crate::build::*;
        pub use crate::steps::hash_file;
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
    pub mod stream {
        pub use crate::stream::*;
    }
    pub mod workers {
        pub use crate::workers::*;
    }
}
