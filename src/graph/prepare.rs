//! From a step whose inputs are done to its recipe, which gives its key, and the job that runs
//! when nothing is filed under that key.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use crate::cache::{ActionResult, BlobRef, Digest};
use crate::media::{self, VideoTrack};
use crate::package::{self, CmafError};

use super::error::StepError;
use super::film::Film;
use super::frames::ChunkFrames;
use super::recipe::Recipe;
use super::step::Step;
use super::title::{Graph, Title};
use super::work::{self, EncodeFacts, Job, SoundFacts, facts};

/// Names of the libraries and encoders in use, as they go into keys.
pub struct Tools {
    pub demuxer: String,
    pub decoder: String,
    pub scaler: String,
    pub resampler: String,
    pub encoder: String,
    pub opus: String,
}

impl Tools {
    pub fn summary(&self) -> String {
        [&self.demuxer, &self.decoder, &self.scaler, &self.resampler, &self.encoder, &self.opus]
            .map(String::as_str)
            .join("; ")
    }
}

/// A step that can be looked up, and run.
pub struct Prepared {
    pub recipe: Recipe,
    pub job: PreparedJob,
}

pub enum PreparedJob {
    Ready(Job),
    /// An encode: its frames are shared with other encodes, so its job is made when it is
    /// certain that it runs.
    Encode,
}

/// The job of a step that runs without a look into the cache: what it reads or writes lies
/// outside.
pub fn outside_job(graph: &Graph, title: &Title, step: Step) -> Result<Job, StepError> {
    let path = title.source.clone();
    match step {
        Step::Source => Ok(Box::new(move |worker| work::hash_source(worker, &path))),
        Step::Publish => {
            let files = title.files(graph)?;
            let folder = title.output.clone();
            Ok(Box::new(move |worker| work::publish(worker, &folder, &files)))
        }
        _ => Err(StepError::internal("a step without a recipe")),
    }
}

pub fn encode_job(title: &Title, rung: usize, frames: Arc<ChunkFrames>) -> Result<Job, StepError> {
    let rung = Arc::clone(title.rungs.get(rung).ok_or_else(|| StepError::internal("no such rung"))?);
    Ok(Box::new(move |worker| work::encode_chunk(worker, &frames, &rung)))
}

pub fn prepare(
    graph: &Graph,
    title: &Title,
    step: Step,
    tools: &Tools,
    jobs: usize,
) -> Result<Prepared, StepError> {
    let missing = || StepError::internal("a step came before its inputs");
    let result = |node: NodeIndex| graph[node].result().cloned().ok_or_else(missing);
    let path = title.source.clone();
    let ready = |recipe: Recipe, job: Job| Ok(Prepared { recipe, job: PreparedJob::Ready(job) });
    match step {
        Step::Source | Step::Publish => Err(StepError::internal("a step outside the cache has no recipe")),
        Step::Index => {
            let source = title.digest.ok_or_else(missing)?;
            ready(
                Recipe::index(source, &tools.demuxer),
                Box::new(move |worker| work::scan_source(worker, &path, source)),
            )
        }
        Step::DecodeSpan { span } => {
            let track = &title.index()?.video;
            let readers = Arc::clone(title.readers.as_ref().ok_or_else(missing)?);
            let digest = track.spans.get(span).ok_or_else(missing)?.digest;
            // With few spans there are idle cores to lend to each decoder.
            let threads = (jobs / track.spans.len().max(1)).max(1);
            ready(
                Recipe::decode(track, Digest(digest.0), &media::video_decoder_name(track)),
                Box::new(move |worker| work::decode_span(worker, &readers, span, threads)),
            )
        }
        Step::Chunk => {
            let track = title.index()?.video.clone();
            let decoded =
                title.nodes.decode.iter().map(|&node| result(node)).collect::<Result<Vec<_>, _>>()?;
            let recipe = Recipe::chunk(decoded.iter().map(|r| r.digest()), timing(&track)?, &title.policy);
            let blobs = decoded.iter().map(|r| blob(r)).collect::<Result<Vec<BlobRef>, _>>()?;
            let policy = title.policy;
            ready(recipe, Box::new(move |worker| work::cut_film(worker, &track, &blobs, &policy, &path)))
        }
        Step::Encode { rung, chunk } => {
            let plan = title.rung(rung)?;
            let chunk = title.film()?.chunks.get(chunk).ok_or_else(missing)?;
            let recipe =
                Recipe::encode(chunk.identity, &plan.settings, &plan.contract, &tools.encoder, &tools.scaler);
            Ok(Prepared { recipe, job: PreparedJob::Encode })
        }
        Step::DecodeSound { sound } => {
            let source = title.sounds.get(sound).cloned().ok_or_else(missing)?;
            ready(
                Recipe::sound(
                    Digest(source.track.packets_digest),
                    source.origin,
                    source.channels,
                    &tools.decoder,
                    &tools.resampler,
                ),
                Box::new(move |worker| work::decode_sound(worker, &source)),
            )
        }
        Step::Audio { rendition } => {
            let plan = title.renditions.get(rendition).cloned().ok_or_else(missing)?;
            let source = title.sounds.get(plan.sound).cloned().ok_or_else(missing)?;
            let sound: SoundFacts = facts(&*result(title.nodes.sound[plan.sound])?)?;
            ready(
                Recipe::audio(sound.pcm, source.channels, plan.bitrate, &tools.opus),
                Box::new(move |worker| work::encode_audio(worker, &source, plan.bitrate, sound.pcm)),
            )
        }
        Step::Contract { rung } => {
            let plan = Arc::clone(title.rung(rung)?);
            let mut headers: Vec<Vec<u8>> = Vec::new();
            for &encode in &title.nodes.encode[rung] {
                let facts: EncodeFacts = facts(&*result(encode)?)?;
                if !headers.contains(&facts.sequence_header) {
                    headers.push(facts.sequence_header);
                }
            }
            let recipe =
                Recipe::contract_of_rung(&plan.contract, headers.iter().map(|header| Digest::of(header)));
            ready(recipe, Box::new(move |_| work::check_contract(&plan, &headers)))
        }
        Step::VideoInit { rung } => {
            let header = result(title.nodes.contract[rung])?.facts.clone();
            let timescale = title.film()?.timescale;
            let recipe = Recipe::mux_video_init(Digest::of(&header), timescale);
            ready(
                recipe,
                Box::new(move |worker| {
                    let track = package::VideoTrack { timescale, sequence_header_obu: &header };
                    work::store_bytes(worker, &package::video_init(&track).map_err(not_muxed)?)
                }),
            )
        }
        Step::VideoSegment { rung, chunk } => {
            let encode = result(title.nodes.encode[rung][chunk])?;
            let number = chunk as u32 + 1;
            let chunk = title.film()?.chunks.get(chunk).ok_or_else(missing)?;
            let (start, durations) = (chunk.start, chunk.durations.clone());
            let runs = postcard::to_stdvec(&durations).map_err(StepError::internal)?;
            let recipe = Recipe::mux_video(encode.digest(), number, signed(start), Digest::of(&runs));
            let encode = blob(&encode)?;
            ready(recipe, Box::new(move |worker| work::mux_video(worker, &encode, number, start, &durations)))
        }
        Step::AudioInit { rendition } => {
            let audio = result(title.nodes.audio[rendition])?;
            let plan = title.renditions.get(rendition).cloned().ok_or_else(missing)?;
            let source = title.sounds.get(plan.sound).cloned().ok_or_else(missing)?;
            let (sound, encoded) = plan.encoded.ok_or_else(missing)?;
            let language = plan.language.as_ref().map_or("", |language| language.as_str());
            let rate = source.track.sample_rate;
            let recipe =
                Recipe::mux_audio_init(audio.digest(), sound.offset, source.channels, rate, language);
            ready(
                recipe,
                Box::new(move |worker| {
                    let track = package::AudioTrack {
                        channels: source.channels,
                        pre_skip: encoded.pre_skip,
                        input_sample_rate: rate,
                        // Sound from before the picture is skipped like the pre-skip.
                        media_time: u64::from(encoded.pre_skip) + (-sound.offset).max(0) as u64,
                        packet_duration: media::OPUS_FRAME as u32,
                        language: plan.language.as_ref(),
                    };
                    work::store_bytes(worker, &package::audio_init(&track).map_err(not_muxed)?)
                }),
            )
        }
        Step::AudioSegment { rendition, segment } => {
            let audio = result(title.nodes.audio[rendition])?;
            let slice = plan_slice(title, rendition, segment).ok_or_else(missing)?;
            let recipe =
                Recipe::mux_audio(audio.digest(), slice.number, signed(slice.start), slice.packets.clone());
            let audio = blob(&audio)?;
            ready(recipe, Box::new(move |worker| work::mux_audio(worker, &audio, &slice)))
        }
        Step::VideoPlaylist { rung } => playlist("video", title.video_playlist(graph, rung)?),
        Step::AudioPlaylist { rendition } => playlist("audio", title.audio_playlist(graph, rendition)?),
        Step::Multivariant => playlist("multivariant", title.multivariant(graph)?),
    }
}

fn plan_slice(title: &Title, rendition: usize, segment: usize) -> Option<work::AudioSlice> {
    title.renditions.get(rendition)?.slices.get(segment).cloned()
}

/// Writing a playlist takes less than looking it up, so its text is its own key.
fn playlist(which: &str, text: String) -> Result<Prepared, StepError> {
    let recipe = Recipe::manifest(which, Digest::of(text.as_bytes()));
    Ok(Prepared {
        recipe,
        job: PreparedJob::Ready(Box::new(move |worker| work::store_bytes(worker, text.as_bytes()))),
    })
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

    pub fn film(&self) -> Result<&Film, StepError> {
        self.film.as_deref().ok_or_else(|| StepError::internal("the film is not cut yet"))
    }

    pub fn rung(&self, rung: usize) -> Result<&Arc<super::rung::RungPlan>, StepError> {
        self.rungs.get(rung).ok_or_else(|| StepError::internal("no such rung"))
    }
}
