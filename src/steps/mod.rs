//! The steps of a build, one kind a file. A file owns everything about its kind: its name and version, what
//! it needs, what its key is made of, what it does, how a cached result is checked before it is accepted,
//! and what the title learns of it. None of that has a default: a new kind does not compile until it says
//! each ([`StepKind`]), and one line of the list below makes it known to the engine.
//!
//! ```text
//! source -> index -> decode ... -> pack -> chunk     told of:   encode  -> mux ... -> pack -> contract -> init -> playlist -> multivariant -> publish
//!                    analyze audio                   told of:   audio   -> mux ... -> pack
//! ```
//!
//! Which steps a title has is a pure function of what is known of it ([`steps_of`]).

pub(crate) mod composed;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod frames;
pub(crate) mod kind;
pub(crate) mod live;
pub(crate) mod memory;
pub(crate) mod recipe;
pub(crate) mod segments;
pub(crate) mod tools;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{BlobRef, Cache, EntryResult};
use crate::executors::Failure;
use crate::media::OnGpu;
use crate::title::Title;
use crate::title::ids::{AudioId, ChunkId, SpanId, TrackId};
use crate::title::part::Part;

use context::{Grant, StepContext};
use live::Live;
use recipe::Recipe;
use view::View;

pub use context::hash_file;
pub use error::StepError;
pub(crate) use error::Stop;
pub use kind::Kind;
pub use segments::ENTRY;

/// Everything about one kind of step. A value is one step of one title, by the numbers of what it is about.
pub(crate) trait StepKind: Copy + Debug + Eq + Hash + Into<Step> {
    /// What events, summaries, plans and the log count it as.
    const KIND: Kind;
    /// Bump it when the bytes that a step makes of the same key fields change, and when the fields of the same
    /// title and spec change: every version is part of a title's key, by which a title is found as a whole.
    const VERSION: u32;

    /// What the title learns of its result, handed over so that it need not be read again.
    type Fact: Send;
    /// What it does, as a value: a thread, a worker process and another machine do the same with it.
    type Work: Serialize + DeserializeOwned + Send + Sync;

    /// Its name for people, e.g. `720p/12`.
    fn label(self, title: &Title) -> String;
    /// What it is drawn as one with, where there are many.
    fn group(self, title: &Title) -> String;
    /// What it is about, in words; may be empty.
    fn detail(self, title: &Title) -> String;
    /// The row of like steps that it stands in, and its place there; `None` where there is no order.
    fn row(self) -> (usize, Option<usize>);

    /// All of its kind that a part of a title has, by what is known of it.
    fn all(part: Part, title: &Title) -> Vec<Self>;
    /// How many of its kind a title has, whether or not a pack stands for them.
    fn count(title: &Title) -> u64;
    /// Steps whose results its key is made of.
    fn inputs(self, title: &Title) -> Vec<Step>;
    /// Steps whose results say that there is this one, though they are no inputs of its key.
    fn told_by(self, title: &Title) -> Vec<Step>;
    /// Steps that its frames or samples come from, though they are no inputs of its key.
    fn made_from(self, title: &Title) -> Vec<Step>;
    /// How it goes together with others that are looked up as one.
    fn packing(self, title: &Title) -> Packing;
    /// Of a pack that was not found: lets the steps that it stands for exist.
    fn unpack(self, title: &mut Title);
    /// Of a pack with this result: blobs that others read by it, with the steps whose results name them.
    fn holds(self, title: &Title, result: &EntryResult, cache: &dyn Cache) -> Vec<(Step, BlobRef)>;
    /// Its result does not hold: the title unlearns it, and what rests on it is withdrawn.
    fn forget(self, title: &mut Title);

    /// How its result is found.
    fn look_up(self, view: &View<'_>) -> Result<LookUp<Self::Fact>, StepError>;
    /// A cached result, once it is certain that it goes with the title: `None` makes it a miss.
    fn accept(
        self,
        view: &View<'_>,
        result: &EntryResult,
        cache: &dyn Cache,
    ) -> Result<Option<Self::Fact>, StepError>;
    /// What it takes when it runs.
    fn needs(self, title: &Title, jobs: usize) -> Needs;
    /// What there is to do. `choice` is the way of those that [`LookUp::Keys`] names.
    fn work(self, view: &View<'_>, choice: usize) -> Result<Self::Work, StepError>;
    /// Does it, on a thread of the build's.
    fn run(work: Self::Work, context: &StepContext, grant: Grant) -> Result<Output<Self::Fact>, Stop>;
    /// Takes in what its result tells.
    fn learn(self, title: &mut Title, live: &mut Live, fact: Self::Fact, learning: &Learning<'_>) -> Learned;
    /// What may be done about a failure other than to report it.
    fn recover(self, title: &mut Title, live: &mut Live, stop: &Stop) -> Recovery;

    /// For each form of its key an example, followed by others of which each has another value in one field.
    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>>;
}

/// How a step goes together with others that are looked up as one.
pub(crate) enum Packing {
    /// Not at all.
    Alone,
    /// A pack stands for it, where that is found.
    InPack,
    /// It is a pack.
    Pack {
        /// Whether it is looked up before the steps that it stands for, which do not exist yet.
        is_packed: bool,
        /// The steps that it stands for and that do not exist.
        stands_for: StandsFor,
    },
}

/// How a step's result is found.
pub(crate) enum LookUp<F> {
    /// In the cache, under the key of any of these: the ways in which it may be made, in order of preference.
    Keys(Vec<Recipe>),
    /// What it reads or writes lies outside the cache. It is as it should be,
    Current(EntryResult, F),
    /// or it is not, and the step runs,
    Stale,
    /// or it cannot be known.
    Unknown,
}

/// What a step takes when it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    /// A slot of the CPUs, and memory that is not worth counting. `in_plans`: it runs when a plan is made,
    /// too, as it changes nothing.
    Slot { in_plans: bool },
    /// A pass over an audio input: all windows of it that wait share one.
    AudioPass(AudioId),
    /// A decoder, of the CPUs or of a GPU.
    Decode { span: SpanId, bytes: Bytes },
    /// An encoder of the rung, and the frames of the chunk, which its other rungs share.
    Encode { track: TrackId, chunk: ChunkId, work: EncodeWork, bytes: Bytes },
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes {
    /// Of the decoded frames of its chunk or span.
    pub frames: u64,
    /// Of a decoder's own frames.
    pub decoder: u64,
    /// Of an encoder's own state.
    pub encoder: u64,
}

/// How much an encode is, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodeWork {
    /// Seconds of the source.
    pub seconds: f64,
    /// Luma samples of all frames.
    pub samples: u64,
}

/// Steps that a pack stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StandsFor {
    /// How many of each kind.
    pub steps: BTreeMap<Kind, u64>,
    /// How much its encodes are, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode: Option<EncodeWork>,
}

/// What a run of a step made.
pub(crate) struct Output<F> {
    pub result: EntryResult,
    pub fact: F,
    /// The executor that made it, if one did.
    pub executor: Option<String>,
    /// What became of a span that was given to a GPU.
    pub on_gpu: Option<OnGpu>,
}

impl<F> Output<F> {
    pub fn new(result: EntryResult, fact: F) -> Output<F> {
        Output { result, fact, executor: None, on_gpu: None }
    }

    fn map<G>(self, fact: impl FnOnce(F) -> G) -> Output<G> {
        Output { result: self.result, fact: fact(self.fact), executor: self.executor, on_gpu: self.on_gpu }
    }
}

/// What learning may look at.
pub(crate) struct Learning<'a> {
    pub results: &'a dyn view::Results,
    pub context: &'a StepContext,
    pub tools: &'a tools::Tools,
    /// Decoders' threads, for frames that are decoded again.
    pub threads: usize,
    /// Whether the step ran in this build, or its result was found.
    pub has_run: bool,
}

pub(crate) type Learned = Result<Vec<Effect>, StepError>;

/// What follows from a result beside which steps there are. The engine carries it out in this order.
pub(crate) enum Effect {
    /// Something worth telling of the title.
    Warn(String),
    /// The source's digest is known: the title as a whole may be up to date.
    SourceKnown,
    /// How much there is to encode is known, if nothing is in the cache.
    Totals { rungs: u64, work: EncodeWork },
    /// All chunks are known.
    Chunked(u64),
    /// What was told of the title's chunks before does not hold.
    ChunksWithdrawn,
    /// The frames of a chunk are in memory.
    Frames(ChunkId, std::sync::Arc<frames::ChunkFrames>),
    /// The title is published.
    Published,
}

/// Stores a result, and returns it.
pub(crate) type StoreResult = Box<dyn FnOnce(&StepContext) -> Result<EntryResult, StepError>>;

/// What is to be done after a failure.
pub(crate) enum Recovery {
    /// It is reported.
    None,
    /// What the title knew was replaced, so the failure is no more. What replaces the result of `step` is stored
    /// under its key, so that the next build starts from it.
    Replaced { step: Step, store: StoreResult },
    /// The result of `step`, which this one rests on, does not hold: it runs again.
    Redo(Step),
    /// Another executor may make it.
    Reassign(Failure),
}

macro_rules! steps {
    ($($module:ident :: $step:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*
        $(pub(crate) use $module::$step;)*

        /// One step of a title. The order is that of distance from the source: a step needs only steps of
        /// earlier kinds, so the longest remaining path is that of the first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Step {
            $($step($step),)*
        }

        /// What a title learns of a result.
        pub(crate) enum Fact {
            $($step(<$step as StepKind>::Fact),)*
        }

        /// What a step does, as a value.
        #[derive(Serialize, Deserialize)]
        pub(crate) enum Work {
            $($step(<$step as StepKind>::Work),)*
        }

        $(impl From<$step> for Step {
            fn from(step: $step) -> Step {
                Step::$step(step)
            }
        })*

        /// The versions of all kinds: a title as a whole depends on each.
        pub(crate) const VERSIONS: [u32; [$($step::VERSION),*].len()] = [$($step::VERSION),*];

        /// All steps that a part of a title has, those before others that others need.
        pub(crate) fn steps_of(part: Part, title: &Title) -> Vec<Step> {
            let mut steps = Vec::new();
            $(steps.extend($step::all(part, title).into_iter().map(Step::from));)*
            steps
        }

        /// How many steps of each kind a title has, whether or not packs stand for them.
        pub(crate) fn counts(title: &Title) -> Vec<(Kind, u64)> {
            let of = [$(($step::KIND, $step::count(title))),*];
            let count = |kind: Kind| of.iter().filter(|(of, _)| *of == kind).map(|(_, count)| count).sum();
            Kind::ALL.into_iter().map(|kind| (kind, count(kind))).collect()
        }

        impl Step {
            /// Its place in the order of kinds.
            pub fn order(self) -> u8 {
                #[repr(u8)]
                enum Order { $($step,)* }
                match self { $(Step::$step(_) => Order::$step as u8,)* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Step::$step(_) => $step::KIND,)* }
            }

            pub fn label(self, title: &Title) -> String {
                match self { $(Step::$step(step) => step.label(title),)* }
            }

            pub fn group(self, title: &Title) -> String {
                match self { $(Step::$step(step) => step.group(title),)* }
            }

            pub fn detail(self, title: &Title) -> String {
                match self { $(Step::$step(step) => step.detail(title),)* }
            }

            /// The row of like steps that it stands in, as two numbers, and its place there.
            pub fn row(self) -> (u8, usize, Option<usize>) {
                let (row, place) = match self { $(Step::$step(step) => step.row(),)* };
                (self.order(), row, place)
            }

            pub fn inputs(self, title: &Title) -> Vec<Step> {
                match self { $(Step::$step(step) => step.inputs(title),)* }
            }

            pub fn told_by(self, title: &Title) -> Vec<Step> {
                match self { $(Step::$step(step) => step.told_by(title),)* }
            }

            pub fn made_from(self, title: &Title) -> Vec<Step> {
                match self { $(Step::$step(step) => step.made_from(title),)* }
            }

            pub fn packing(self, title: &Title) -> Packing {
                match self { $(Step::$step(step) => step.packing(title),)* }
            }

            pub fn unpack(self, title: &mut Title) {
                match self { $(Step::$step(step) => step.unpack(title),)* }
            }

            pub fn holds(
                self,
                title: &Title,
                result: &EntryResult,
                cache: &dyn Cache,
            ) -> Vec<(Step, BlobRef)> {
                match self { $(Step::$step(step) => step.holds(title, result, cache),)* }
            }

            pub fn forget(self, title: &mut Title) {
                match self { $(Step::$step(step) => step.forget(title),)* }
            }

            pub fn look_up(self, view: &View<'_>) -> Result<LookUp<Fact>, StepError> {
                Ok(match self {
                    $(Step::$step(step) => match step.look_up(view)? {
                        LookUp::Keys(recipes) => LookUp::Keys(recipes),
                        LookUp::Current(result, fact) => LookUp::Current(result, Fact::$step(fact)),
                        LookUp::Stale => LookUp::Stale,
                        LookUp::Unknown => LookUp::Unknown,
                    },)*
                })
            }

            pub fn accept(
                self,
                view: &View<'_>,
                result: &EntryResult,
                cache: &dyn Cache,
            ) -> Result<Option<Fact>, StepError> {
                Ok(match self {
                    $(Step::$step(step) => step.accept(view, result, cache)?.map(Fact::$step),)*
                })
            }

            pub fn needs(self, title: &Title, jobs: usize) -> Needs {
                match self { $(Step::$step(step) => step.needs(title, jobs),)* }
            }

            pub fn work(self, view: &View<'_>, choice: usize) -> Result<Work, StepError> {
                Ok(match self { $(Step::$step(step) => Work::$step(step.work(view, choice)?),)* })
            }

            pub fn learn(
                self,
                title: &mut Title,
                live: &mut Live,
                fact: Fact,
                learning: &Learning<'_>,
            ) -> Learned {
                match (self, fact) {
                    $((Step::$step(step), Fact::$step(fact)) => step.learn(title, live, fact, learning),)*
                    (..) => Err(StepError::internal("the fact of another kind of step")),
                }
            }

            pub fn recover(self, title: &mut Title, live: &mut Live, stop: &Stop) -> Recovery {
                match self { $(Step::$step(step) => step.recover(title, live, stop),)* }
            }
        }

        /// By kind of step, its name and example keys.
        #[cfg(test)]
        fn all_example_keys() -> Vec<(&'static str, Vec<Vec<Recipe>>)> {
            vec![$((stringify!($step), $step::example_keys())),*]
        }

        impl Work {
            pub fn run(self, context: &StepContext, grant: Grant) -> Result<Output<Fact>, Stop> {
                match self {
                    $(Work::$step(work) => {
                        Ok($step::run(work, context, grant)?.map(Fact::$step))
                    })*
                }
            }
        }
    };
}

// The order is that of distance from the source.
steps! {
    source::HashSource,
    index::IndexSource,
    decode::DecodeSpan,
    decode_pack::PackSpans,
    chunk::CutChunks,
    audio_analysis::AnalyzeAudio,
    encode::EncodeChunk,
    audio::EncodeWindow,
    mux::MuxSegment,
    pack::PackSegments,
    contract::CheckContract,
    init::MuxInit,
    playlist::WritePlaylist,
    multivariant::WriteMultivariant,
    publish::Publish,
}

/// Works that run together and share what they can: windows of one audio input one pass over it. They are
/// told of by their numbers, each before it begins and with its result.
pub(crate) fn run_together(
    works: Vec<Work>,
    context: &StepContext,
    batch: &mut dyn Batch,
) -> Result<(), Stop> {
    let mut windows = Vec::new();
    for (number, work) in works.into_iter().enumerate() {
        match work {
            Work::EncodeWindow(window) => windows.push((number, window)),
            other => {
                if batch.begin(number) {
                    let output = other.run(context, Grant::Slot)?;
                    batch.done(number, output);
                }
            }
        }
    }
    audio::run_together(windows, context, batch)
}

/// Who runs several steps together.
pub(crate) trait Batch {
    /// Told before a step begins. False where it is to be passed over, as another process runs it.
    fn begin(&mut self, number: usize) -> bool;
    /// Takes a step's result.
    fn done(&mut self, number: usize, output: Output<Fact>);
}

#[cfg(test)]
mod tests;
