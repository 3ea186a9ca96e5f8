//! From a step whose inputs are done to its recipe, which gives its key, and the job that runs
//! when nothing is filed under that key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use crate::cache::{ActionResult, BlobRef, Digest};
use crate::media::{self, AudioTrack, Libraries, SoundDecoder, VideoTrack};
use crate::package::{self, CmafError};

use super::composed::store_text;
use super::error::StepError;
use super::film::Piece;
use super::frames::ChunkFrames;
use super::memory::Room;
use super::recipe::Recipe;
use super::rung::{Choice, RungPlan};
use super::sound::{self, WindowJob};
use super::step::Step;
use super::title::{Graph, Sound, Title};
use super::track::{Medium, ReelFacts, Rendition, Track};
use super::work::{self, Batch, EncodeFacts, Job, Made, Place, Worker, facts};

/// Names of the libraries and encoders in use, as they go into keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    #[serde(flatten)]
    pub libraries: Libraries,
    /// It only is in keys of what depends on it.
    #[serde(default)]
    pub cpu: String,
    /// By the name that the spec has for them, all that are here.
    pub encoders: BTreeMap<String, Vec<String>>,
}

impl Tools {
    /// All that can matter to a ladder with these encoders.
    pub fn summary(&self, encoders: &BTreeSet<&str>) -> String {
        let encoders = self.encoders.iter().filter(|(name, _)| encoders.contains(name.as_str()));
        let encoders = encoders.flat_map(|(_, identities)| identities).map(String::as_str);
        self.libraries.all().into_iter().chain(encoders).collect::<Vec<_>>().join("; ")
    }
}

/// A step that can be looked up, and run.
pub struct Prepared {
    pub recipe: Recipe,
    /// `None` where it is made only when the step is certain to run, out of what is then at hand:
    /// frames that several steps share.
    pub job: Option<Job>,
}

/// Reading a source: what it reads lies outside the cache, so there is no key to look up.
pub fn source_job(title: &Title) -> Job {
    let path = title.source.clone();
    Box::new(move |worker| work::hash_source(worker, &path).map(work::source))
}

/// Publishing: what it writes lies outside the cache.
pub fn publish_job(graph: &Graph, title: &Title, files: &Arc<package::FileList>) -> Result<Job, StepError> {
    let (files, folder, composed) = (Arc::clone(files), title.output.clone(), title.composed(graph)?);
    Ok(Box::new(move |worker| work::publish(worker, &folder, &files, &composed)))
}

/// With few spans there are idle cores to lend to each decoder.
pub fn decode_threads(track: &VideoTrack, jobs: usize) -> usize {
    (jobs / track.spans.len().max(1)).max(1)
}

/// The job of a span, whose frames are kept where there is room for them.
pub fn decode_job(
    title: &Title,
    span: usize,
    (jobs, gpu): (usize, Option<String>),
    keep: Option<Room>,
) -> Result<Job, StepError> {
    let readers = Arc::clone(title.readers.as_ref().ok_or_else(early)?);
    let threads = decode_threads(&title.index()?.video, jobs);
    Ok(Box::new(move |worker| work::decode_span(worker, &readers, span, (threads, gpu), keep)))
}

/// The job of an encode, done in a way (the rung's choice, the executor) and on so many cores.
pub fn encode_job(
    title: &Title,
    track: usize,
    way: (usize, usize),
    frames: Arc<ChunkFrames>,
    threads: usize,
) -> Result<Job, StepError> {
    let plan = Arc::clone(title.rung(track)?);
    Ok(Box::new(move |worker| work::encode_chunk(worker, &frames, &plan, way, threads)))
}

/// The job of windows of one sound, each given by track and piece. Returns it with the order in
/// which it hands over their results.
pub fn windows_job(
    title: &Title,
    sound: usize,
    mut windows: Vec<(NodeIndex, usize, usize)>,
) -> Result<(Vec<NodeIndex>, Batch), StepError> {
    windows.sort_by_key(|&(node, _, piece)| (piece, node));
    let source = title.sounds.get(sound).ok_or_else(early)?.source.clone();
    let mut jobs = Vec::with_capacity(windows.len());
    for &(_, track, piece) in &windows {
        let (rendition, _) = title.rendition(track)?;
        jobs.push(WindowJob { window: title.piece(track, piece)?.clone(), bitrate: rendition.bitrate });
    }
    let nodes = windows.into_iter().map(|(node, ..)| node).collect();
    let framing = title.framing(sound)?;
    let batch: Batch =
        Box::new(move |worker, steps| sound::encode_windows(worker, &source, framing, &jobs, steps));
    Ok((nodes, batch))
}

/// What a step is made by, in each of the ways in which it may be made: of an encode, those that its rung
/// allows, in order of preference; of anything else one.
pub fn prepare(graph: &Graph, title: &Title, step: Step, tools: &Tools) -> Result<Vec<Prepared>, StepError> {
    let preparing = Preparing { graph, title, tools };
    let one = match step {
        Step::Source | Step::Publish => Err(StepError::internal("a step outside the cache has no recipe")),
        Step::Encode { track, piece } | Step::Audio { track, piece } => {
            let recipes = title.encode_recipes(track, title.piece(track, piece)?.identity, tools)?;
            return Ok(recipes.into_iter().map(later).collect());
        }
        Step::Index => preparing.index(),
        Step::DecodeSpan { span } => preparing.span(span),
        Step::SpanReel { reel } => preparing.span_reel(reel),
        Step::Chunk => preparing.chunk(),
        Step::DecodeSound { sound } => preparing.sound(sound),
        Step::Segment { track, piece } => preparing.segment(track, piece),
        Step::Reel { track, reel } => preparing.reel(track, reel),
        Step::Contract { track } => preparing.contract(track),
        Step::Init { track } => match title.track(track)?.medium {
            Medium::Video(_) => preparing.video_init(track),
            Medium::Audio(_) => preparing.audio_init(track),
        },
        Step::Playlist { track } => preparing.playlist(track),
        Step::Multivariant => preparing.multivariant(),
    };
    Ok(vec![one?])
}

fn ready(
    recipe: Recipe,
    job: impl FnOnce(&Worker) -> Result<Made, StepError> + Send + Sync + 'static,
) -> Prepared {
    Prepared { recipe, job: Some(Box::new(job)) }
}

fn later(recipe: Recipe) -> Prepared {
    Prepared { recipe, job: None }
}

/// What a step is prepared from.
struct Preparing<'a> {
    graph: &'a Graph,
    title: &'a Title,
    tools: &'a Tools,
}

impl Preparing<'_> {
    fn result(&self, node: NodeIndex) -> Result<Arc<ActionResult>, StepError> {
        self.graph[node].result().cloned().ok_or_else(early)
    }

    fn index(&self) -> Result<Prepared, StepError> {
        let (path, source) = (self.title.source.clone(), self.title.digest.ok_or_else(early)?);
        let recipe = Recipe::index(source, &self.tools.libraries.demuxer);
        Ok(ready(recipe, move |worker| work::scan_source(worker, &path, source)))
    }

    fn span(&self, span: usize) -> Result<Prepared, StepError> {
        let track = &self.title.index()?.video;
        let digest = track.spans.get(span).ok_or_else(early)?.digest;
        Ok(later(Recipe::decode(track, Digest(digest.0), &decoder_of(track, self.tools))))
    }

    fn span_reel(&self, reel: usize) -> Result<Prepared, StepError> {
        let track = &self.title.index()?.video;
        let range = self.title.span_reels.get(reel).ok_or_else(early)?.spans.clone();
        let spans = track.spans.get(range.clone()).ok_or_else(early)?;
        let digests = spans.iter().map(|span| Digest(span.digest.0));
        let recipe = Recipe::span_reel(track, digests, &decoder_of(track, self.tools));
        let mut blobs = Vec::with_capacity(range.len());
        for node in self.title.decode.get(range).ok_or_else(early)? {
            let Some(decoded) = node.and_then(|node| self.graph[node].result()) else {
                return Ok(later(recipe));
            };
            blobs.push(blob(decoded)?);
        }
        Ok(ready(recipe, move |worker| work::wind_spans(worker, &blobs)))
    }

    fn chunk(&self) -> Result<Prepared, StepError> {
        let track = Arc::new(self.title.index()?.video.clone());
        let reels = self.title.span_reels.iter().map(|reel| self.result(reel.node));
        let decoded = reels.collect::<Result<Vec<_>, _>>()?;
        let policy = self.title.policy;
        let recipe = Recipe::chunk(decoded.iter().map(|r| r.digest()), timing(&track)?, &policy);
        if let Some(film) = self.title.cutting.as_ref().and_then(|cutting| cutting.film()) {
            return Ok(ready(recipe, move |worker| work::store_film(worker, film)));
        }
        let blobs = decoded.iter().map(|r| blob(r)).collect::<Result<Vec<BlobRef>, _>>()?;
        let path = self.title.source.clone();
        Ok(ready(recipe, move |worker| work::cut_film(worker, &track, &blobs, &policy, &path)))
    }

    fn sound(&self, sound: usize) -> Result<Prepared, StepError> {
        let source = self.title.sounds.get(sound).ok_or_else(early)?.source.clone();
        let policy = sound::policy(&self.title.policy);
        let recipe = Recipe::sound(
            Digest(source.track.packets_digest),
            source.origin,
            source.channels,
            &policy,
            &sound_decoder_of(&source.track, self.tools),
            &self.tools.libraries.resampler,
        );
        let framing = self.title.framing(sound)?;
        Ok(ready(recipe, move |worker| sound::decode_sound(worker, &source, &policy, framing)))
    }

    fn segment(&self, track: usize, piece: usize) -> Result<Prepared, StepError> {
        let made = self.title.track(track)?;
        let encode = made.pieces.get(piece).and_then(|nodes| nodes.encode);
        let encode = self.result(encode.ok_or_else(early)?)?;
        let place = self.title.place(track, piece)?;
        let durations = Digest::of(&postcard::to_stdvec(&place.durations).map_err(StepError::internal)?);
        let medium = made.medium_name();
        let recipe = Recipe::mux(medium, encode.digest(), place.number, signed(place.start), durations);
        let (payload, EncodeFacts { sizes, .. }) = (blob(&encode)?, facts(&encode)?);
        let track = self.title.described(track)?;
        Ok(ready(recipe, move |worker| work::mux(worker, &track, (&payload, &sizes), &place)))
    }

    fn reel(&self, track: usize, reel: usize) -> Result<Prepared, StepError> {
        let recipe = self.title.reel_recipe(track, reel, self.tools)?;
        let made = self.title.track(track)?;
        let range = made.reels.get(reel).ok_or_else(early)?.pieces.clone();
        let mut segments = Vec::with_capacity(range.len());
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for nodes in made.pieces.get(range).ok_or_else(early)? {
            let result = |node: Option<NodeIndex>| node.and_then(|node| self.graph[node].result());
            let (Some(encode), Some(segment)) = (result(nodes.encode), result(nodes.segment)) else {
                return Ok(later(recipe));
            };
            segments.push(Arc::clone(segment));
            if made.rung().is_some() {
                let facts: EncodeFacts = facts(encode)?;
                if !headers.contains(&facts.header) {
                    headers.push(facts.header);
                }
            }
        }
        Ok(ready(recipe, move |worker| work::wind(worker, &segments, headers)))
    }

    fn contract(&self, track: usize) -> Result<Prepared, StepError> {
        let plan = Arc::clone(self.title.rung(track)?);
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for reel in &self.title.track(track)?.reels {
            let facts: ReelFacts = facts(&*self.result(reel.node)?)?;
            headers.extend(facts.headers);
        }
        headers.sort();
        headers.dedup();
        let digests = headers.iter().map(|header| Digest::of(header));
        let recipe = Recipe::contract_of_rung(&plan.contract, digests);
        Ok(ready(recipe, move |_| work::check_contract(&plan, &headers)))
    }

    fn video_init(&self, track: usize) -> Result<Prepared, StepError> {
        let contract = self.title.track(track)?.contract.ok_or_else(early)?;
        let header = self.result(contract)?.facts.clone();
        let track = self.title.described(track)?;
        let recipe = Recipe::mux_video_init(Digest::of(&header), track.timescale);
        Ok(ready(recipe, move |worker| {
            store_text(worker, package::init_segment(&track, &header, 0).map_err(not_muxed)?)
        }))
    }

    fn audio_init(&self, track: usize) -> Result<Prepared, StepError> {
        let (_, sound) = self.title.rendition(track)?;
        let (heard, _) = sound.heard.as_ref().ok_or_else(early)?;
        let (offset, channels) = (heard.offset, sound.source.channels);
        let rate = sound.source.track.sample_rate;
        let track = self.title.described(track)?;
        let language = track.language.as_ref().map_or("", |language| language.as_str());
        let recipe = Recipe::mux_audio_init(offset, channels, track.pre_skip, rate, language);
        // Audio from before the picture is skipped like the pre-skip.
        let early = (-offset).max(0) as u64;
        Ok(ready(recipe, move |worker| {
            store_text(worker, package::init_segment(&track, &[], early).map_err(not_muxed)?)
        }))
    }

    fn playlist(&self, track: usize) -> Result<Prepared, StepError> {
        let playlist = self.title.media_playlist(self.graph, track)?;
        let recipe = playlist.recipe(self.title.track(track)?.medium_name());
        Ok(ready(recipe, move |worker| store_text(worker, playlist.text()?.into_bytes())))
    }

    /// Writing it takes less than looking it up, so its text is its own key.
    fn multivariant(&self) -> Result<Prepared, StepError> {
        let text = self.title.multivariant()?;
        let recipe = Recipe::multivariant_playlist(Digest::of(text.as_bytes()));
        Ok(ready(recipe, move |worker| store_text(worker, text.into_bytes())))
    }
}

/// A step came before its inputs.
fn early() -> StepError {
    StepError::internal("a step came before its inputs")
}

fn decoder_of(track: &VideoTrack, tools: &Tools) -> String {
    format!("{} {}", tools.libraries.decoder, track.codec)
}

fn sound_decoder_of(track: &AudioTrack, tools: &Tools) -> String {
    SoundDecoder::of(&track.codec).identity(&tools.libraries.decoder, &tools.cpu)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn not_muxed(error: CmafError) -> StepError {
    StepError::internal(error)
}

/// The one blob of a result.
pub fn blob(result: &ActionResult) -> Result<BlobRef, StepError> {
    result.blobs.first().copied().ok_or_else(|| StepError::internal("a result without its blob"))
}

/// What the times of a film follow from.
fn timing(track: &VideoTrack) -> Result<Digest, StepError> {
    let parts =
        (&track.stamps, &track.sorted_stamps, track.time_base, &track.claimed_rates, track.last_duration);
    Ok(Digest::of(&postcard::to_stdvec(&parts).map_err(StepError::internal)?))
}

impl Title {
    pub fn index(&self) -> Result<&media::Index, StepError> {
        self.index.as_deref().ok_or_else(|| StepError::internal("the tracks are not known yet"))
    }

    pub fn track(&self, track: usize) -> Result<&Track, StepError> {
        self.tracks.get(track).ok_or_else(|| StepError::internal("no such track"))
    }

    pub fn rung(&self, track: usize) -> Result<&Arc<RungPlan>, StepError> {
        self.track(track)?.rung().ok_or_else(|| StepError::internal("not a rung"))
    }

    pub fn rendition(&self, track: usize) -> Result<(&Arc<Rendition>, &Sound), StepError> {
        let rendition = self.track(track)?.rendition();
        let rendition = rendition.ok_or_else(|| StepError::internal("not a rendition"))?;
        Ok((rendition, self.sounds.get(rendition.sound).ok_or_else(early)?))
    }

    pub fn piece(&self, track: usize, piece: usize) -> Result<&Piece, StepError> {
        self.pieces(track).get(piece).ok_or_else(early)
    }

    fn place(&self, track: usize, piece: usize) -> Result<Place, StepError> {
        let number = piece as u32 + 1;
        let piece = self.piece(track, piece)?;
        Ok(Place { number, start: piece.start, durations: piece.durations.clone() })
    }

    /// The ways in which a track may encode a piece of this identity, in order of preference.
    pub fn encode_recipes(
        &self,
        track: usize,
        identity: Digest,
        tools: &Tools,
    ) -> Result<Vec<Recipe>, StepError> {
        let plan = match &self.track(track)?.medium {
            Medium::Video(plan) => plan,
            Medium::Audio(rendition) => {
                let (_, sound) = self.rendition(track)?;
                return Ok(vec![Recipe::audio(
                    identity,
                    sound.source.channels,
                    rendition.bitrate,
                    &tools.libraries.opus,
                )]);
            }
        };
        let recipes = plan.choices.iter().map(|Choice { settings, identity: encoder }| {
            Recipe::encode(identity, settings, &plan.contract, encoder, &tools.libraries.scaler)
        });
        Ok(recipes.collect())
    }

    /// The one that is preferred.
    pub fn encode_recipe(&self, track: usize, identity: Digest, tools: &Tools) -> Result<Recipe, StepError> {
        let first = self.encode_recipes(track, identity, tools)?.into_iter().next();
        first.ok_or_else(|| StepError::internal("a rung without an encoder"))
    }

    fn reel_recipe(&self, track: usize, reel: usize, tools: &Tools) -> Result<Recipe, StepError> {
        let range = self.track(track)?.reels.get(reel).ok_or_else(early)?.pieces.clone();
        let number = range.start as u32 + 1;
        let choices = self.encode_recipes(track, Digest([0; 32]), tools)?;
        let settings = choices.iter().map(Recipe::key);
        let mut pieces = blake3::Hasher::new();
        for piece in self.pieces(track).get(range.clone()).ok_or_else(early)? {
            pieces.update(&piece.identity.0).update(&piece.start.to_le_bytes());
            pieces.update(&(piece.durations.len() as u64).to_le_bytes());
            for (count, ticks) in &piece.durations {
                pieces.update(&count.to_le_bytes()).update(&ticks.to_le_bytes());
            }
        }
        let pieces = Digest::from(pieces.finalize());
        Ok(Recipe::reel(settings, self.track(track)?.medium_name(), number, pieces, range.len() as u32))
    }
}
