//! The frames of a span: their digests, and how much each differs from the one before it. Never the frames
//! themselves, but for those that are handed to encodes in the same build.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::media::{Counted, DecodeOptions, Decoding, MediaError, LumaFingerprint, VideoTrack, cut_score};
use crate::title::assemble::{DecodedSpan, FrameFacts};
use crate::title::ids::{PackId, SpanId};
use crate::title::part::Part;
use crate::title::rung::who_is_here;
use crate::title::{Title, pack_of, span_ids};

use super::context::{Grant, Readers, StepContext, encoded};
use super::decode_pack::PackSpans;
use super::error::{StepError, Stop};
use super::frames::{self, ChunkFrames, RetainedFrame};
use super::index::{IndexSource, store_index};
use super::live::Live;
use super::recipe::Recipe;
use super::view::{Results, View, blob};
use super::{
    Bytes, Effect, EncodeWork, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step,
    StepKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DecodeSpan {
    pub span: SpanId,
}

/// Which span. Its packets are read by whoever decodes them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    span: SpanId,
}

/// A span, with its frames if they were to be retained.
pub(crate) struct Fact {
    decoded: DecodedSpan,
    frames: Option<Vec<RetainedFrame>>,
}

/// Packets carry no time stamp, so neither does the key.
struct Key<'a> {
    parameters: Digest,
    packets: Digest,
    decoder: &'a str,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { parameters, packets, decoder } = *self;
        Recipe::new("decode", DecodeSpan::VERSION)
            .digest("codec parameters", parameters)
            .digest("packets", packets)
            .text("decoder", decoder)
    }
}

impl StepKind for DecodeSpan {
    const KIND: Kind = Kind::Decode;
    const VERSION: u32 = 2;

    /// `None` where it was found in the cache, and is read when its turn comes.
    type Fact = Option<Box<Fact>>;
    type Work = Work;

    fn label(self, _: &Title) -> String {
        format!("decode/{}", self.span)
    }

    fn group(self, _: &Title) -> String {
        "decode".to_owned()
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (0, Some(self.span.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<DecodeSpan> {
        match part {
            Part::Spans(pack) if title.is_span_pack_unpacked(pack) => {
                span_ids(title.spans_of(pack)).map(|span| DecodeSpan { span }).collect()
            }
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        title.video().map_or(0, |video| video.spans.len() as u64)
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        vec![IndexSource.into()]
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn packing(self, _: &Title) -> Packing {
        Packing::InPack
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Self::Fact>, StepError> {
        let track = view.title.video().ok_or_else(StepError::early)?;
        let packets = track.spans.get(self.span.index()).ok_or_else(StepError::early)?.digest;
        let decoder = &view.tools.decoder_of(track);
        let key = Key { parameters: Digest(track.parameters), packets: Digest(packets.0), decoder };
        Ok(LookUp::Keys(vec![key.recipe()]))
    }

    fn accept(
        self,
        _: &View<'_>,
        _: &EntryResult,
        _: &dyn Cache,
    ) -> Result<Option<Self::Fact>, StepError> {
        // Whoever needs it reads it, and has it made again if it is damaged.
        Ok(Some(None))
    }

    fn needs(self, title: &Title, jobs: usize) -> Needs {
        let bytes = title.video().map_or_else(Bytes::default, |track| {
            let packets = track.spans.get(self.span.index()).map_or(0, |span| span.end - span.first);
            Bytes {
                frames: packets.saturating_mul(track.frame_bytes()),
                decoder: frames::decoder_bytes(track, decode_threads(track, jobs)),
                encoder: 0,
            }
        });
        Needs::Decode { span: self.span, bytes }
    }

    fn work(self, _: &View<'_>, _: usize) -> Result<Work, StepError> {
        Ok(Work { span: self.span })
    }

    fn run(work: Work, context: &StepContext, grant: Grant) -> Result<Output<Self::Fact>, Stop> {
        let Grant::Decode { readers, threads, gpu, keep } = grant else {
            return Err(StepError::internal("a decode without a decoder").into());
        };
        let span = work.span.index();
        let first = readers.track().spans.get(span).map_or(0, |span| span.first);
        let read = || -> Result<_, MediaError> {
            let mut reader = readers.take(first)?;
            let packets = reader.read_span(span)?;
            readers.give_back(reader);
            Ok(packets)
        };
        let packets = read().map_err(StepError::from)?;
        let options = DecodeOptions { threads, frames: keep.is_some(), at_once: true, gpu };
        let decoding = context.codecs.open(packets, &options).map_err(StepError::from)?;
        let mut decoding = Counted::new(decoding, &context.decoded);
        let mut decoded = DecodedSpan::default();
        let mut before: Option<LumaFingerprint> = None;
        let mut first = None;
        let mut frames = keep.is_some().then(Vec::new);
        while let Some(next) = decoding.next_frame().map_err(StepError::from)? {
            if context.is_cancelled() {
                return Err(StepError::Cancelled.into());
            }
            let score = before.as_ref().map_or(0, |before| cut_score(before, &next.fingerprint));
            decoded.frames.push(FrameFacts { rank: next.rank, digest: next.digest, score });
            first.get_or_insert_with(|| next.fingerprint.clone());
            before = Some(next.fingerprint);
            if let Some(frames) = &mut frames {
                frames.extend(next.frame.map(Arc::new));
            }
        }
        decoded.ends = first.zip(before);
        // A decoder that hands over no frames was not asked for them, or cannot: they are decoded again later.
        let frames = frames.filter(|frames| frames.len() == decoded.frames.len()).zip(keep);
        let frames = frames.map(|(frames, mut memory)| {
            let bytes = readers.track().frame_bytes();
            let retain = |frame| RetainedFrame { frame, memory: memory.split(bytes) };
            frames.into_iter().map(retain).collect()
        });
        let result = context.store(&encoded(&decoded)?, Vec::new())?;
        let on_gpu = decoding.on_gpu();
        Ok(Output { on_gpu, ..Output::new(result, Some(Box::new(Fact { decoded, frames }))) })
    }

    fn learn(self, title: &mut Title, live: &mut Live, fact: Self::Fact, learning: &Learning<'_>) -> Learned {
        let mut effects = Vec::new();
        if let Some(fact) = fact.filter(|_| learning.has_run) {
            if !start_chunking(title, live, learning, &mut effects)? {
                return Ok(effects);
            }
            if let Some(chunker) = &mut live.chunker {
                chunker.arrive(self.span, fact.decoded, fact.frames);
            }
        }
        chunk_on(title, live, learning, &mut effects);
        Ok(effects)
    }

    /// A span that does not decode by itself may mean that the stream cannot be entered where it says: then
    /// the track is decoded as a whole, whose verdict is final.
    fn recover(self, title: &mut Title, live: &mut Live, stop: &Stop) -> Recovery {
        let Stop::Failed(StepError::Media(MediaError::Incomplete { .. } | MediaError::Damaged { .. })) = stop
        else {
            return Recovery::None;
        };
        let Some(index) = title.join_spans() else { return Recovery::None };
        *live = Live::default();
        live.readers = Some(Arc::new(Readers::new(&title.source, Arc::new(index.video.clone()))));
        // The next build does not try the spans again.
        let store = Box::new(move |context: &StepContext| store_index(context, &index));
        Recovery::Replaced { step: IndexSource.into(), store }
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let of = |parameters, packets, decoder| {
            Key { parameters: Digest([parameters; 32]), packets: Digest([packets; 32]), decoder }.recipe()
        };
        vec![vec![of(1, 1, "a"), of(2, 1, "a"), of(1, 2, "a"), of(1, 1, "b")]]
    }
}

/// With few spans there are idle cores to lend to each decoder.
pub(crate) fn decode_threads(track: &VideoTrack, jobs: usize) -> usize {
    (jobs / track.spans.len().max(1)).max(1)
}

/// Whether the title can be chunked beside decoding; sets out to do so the first time.
fn start_chunking(
    title: &mut Title,
    live: &mut Live,
    learning: &Learning<'_>,
    effects: &mut Vec<Effect>,
) -> Result<bool, StepError> {
    if live.chunker.is_some() {
        return Ok(true);
    }
    // Known already, or given up.
    if title.timing.is_some() || live.is_chunked_last {
        return Ok(false);
    }
    let chunker = live.readers.as_ref().map(|readers| readers.track());
    let chunker = chunker.and_then(|track| crate::title::streaming::StreamingChunker::new(track, title.policy));
    let Some(chunker) = chunker else {
        live.is_chunked_last = true;
        return Ok(false);
    };
    let (timing, duration) = (chunker.timing().clone(), chunker.duration());
    // Where the tracks cannot be made, the chunk step's result will tell so again.
    live.is_chunked_last = true;
    begin_tracks(title, live, timing, duration, learning, effects)?;
    live.is_chunked_last = false;
    live.chunker = Some(Box::new(chunker));
    Ok(true)
}

/// The tracks are known, and with them how much there is to encode.
pub(crate) fn begin_tracks(
    title: &mut Title,
    live: &mut Live,
    timing: crate::title::assemble::Timing,
    duration: u64,
    learning: &Learning<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), StepError> {
    let frames: u64 = timing.span_frames.iter().map(|&frames| u64::from(frames)).sum();
    let seconds = timing.seconds(duration);
    let here = who_is_here(&learning.tools.encoders, &learning.context.unusable);
    live.begin_frames(title, &timing, learning.context, learning.threads);
    effects.extend(title.learn_timing(timing, &here)?.into_iter().map(Effect::Warn));
    let rungs = title.tracks.iter().filter_map(|track| track.rung());
    let samples =
        rungs.clone().map(|rung| u64::from(rung.picture.width) * u64::from(rung.picture.height) * frames);
    let work = EncodeWork { seconds, samples: samples.sum() };
    effects.push(Effect::Totals { rungs: rungs.count() as u64, work });
    Ok(())
}

/// Puts together what has arrived, as far as there is no gap.
fn chunk_on(title: &mut Title, live: &mut Live, learning: &Learning<'_>, effects: &mut Vec<Effect>) {
    loop {
        let Some(chunker) = &mut live.chunker else { return };
        if chunker.advance().is_none() {
            // The frames are not those that the time stamps tell of: all must be seen first.
            return stop_chunking(title, live, effects);
        }
        while let Some(finished) = chunker.next_chunk() {
            let frames = finished.frames.zip(live.frames.clone());
            let chunk = title.learn_chunk(finished.chunk.clone(), frames.is_some());
            if let Some((frames, source)) = frames {
                let frames = ChunkFrames::eager(source, finished.chunk, frames);
                effects.push(Effect::Frames(chunk, Arc::new(frames)));
            }
        }
        let Some(span) = chunker.wants() else { return };
        let Some(cached) = cached_span(title, live, span, learning) else { return };
        let Some(decoded) = cached else {
            // Lost: the chunk step will have it made again.
            return stop_chunking(title, live, effects);
        };
        if let Some(chunker) = &mut live.chunker {
            chunker.arrive(span, decoded, None);
        }
    }
}

/// Withdraws all that rests on chunks that may not hold.
fn stop_chunking(title: &mut Title, live: &mut Live, effects: &mut Vec<Effect>) {
    live.is_chunked_last = true;
    live.chunker = None;
    live.frames = None;
    title.withdraw_tracks();
    // What was told before goes with it.
    effects.retain(|effect| !matches!(effect, Effect::Frames(..)));
    effects.push(Effect::ChunksWithdrawn);
}

/// A span that was decoded by an earlier build, if it was: out of its pack, or by itself. `Some(None)` where
/// the cache has lost it.
fn cached_span(
    title: &Title,
    live: &mut Live,
    span: SpanId,
    learning: &Learning<'_>,
) -> Option<Option<DecodedSpan>> {
    let pack: PackId = pack_of(span.index());
    let results: &dyn Results = learning.results;
    let load = |result: &EntryResult| learning.context.cache.blob(&blob(result).ok()?).ok()?;
    if let Some(result) = results.cached(DecodeSpan { span }.into()) {
        return Some(load(result).and_then(|bytes| postcard::from_bytes(&bytes).ok()));
    }
    let result = results.cached(PackSpans { pack }.into())?;
    let place = span.index() - title.spans_of(pack).start;
    if let Some((_, spans)) = live.span_pack.as_ref().filter(|(of, _)| *of == pack) {
        return Some(spans.get(place).cloned());
    }
    let spans: Option<Vec<DecodedSpan>> = load(result).and_then(|bytes| postcard::from_bytes(&bytes).ok());
    let found = spans.as_ref().and_then(|spans| spans.get(place).cloned());
    live.span_pack = spans.map(|spans| (pack, spans));
    Some(found)
}
