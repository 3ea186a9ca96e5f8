//! A window of audio in a rendition, encoded by itself: the packets of all windows are one stream that a
//! decoder plays straight through.

use std::cell::Cell;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::media::{Blocks, FrameDigest, AudioSource, AudioWindow};
use crate::stream::Framing;
use crate::title::chunk::Chunk;
use crate::title::ids::{ChunkId, TrackId};
use crate::title::part::Part;
use crate::title::Title;

use super::audio_analysis::{AnalyzeAudio, digest_of, identity, lead_of};
use super::context::{Grant, StepContext};
use super::encode::{EncodeFacts, store_samples, time_range, track_label};
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::tools::Tools;
use super::view::View;
use super::{
    Batch, Fact, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EncodeWindow {
    pub track: TrackId,
    pub window: ChunkId,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    source: AudioSource,
    framing: Framing,
    window: Chunk,
    bitrate: u32,
}

/// Everything about a rendition's windows but which one it is.
pub(crate) struct RenditionKey<'a> {
    pub channels: u8,
    /// Bits a second.
    pub bitrate: u32,
    pub encoder: &'a str,
}

impl RenditionKey<'_> {
    /// `pcm` stands for the window's samples and those that lead up to it.
    pub fn recipe(&self, pcm: Digest) -> Recipe {
        let RenditionKey { channels, bitrate, encoder } = *self;
        Recipe::new("audio", EncodeWindow::VERSION)
            .digest("pcm", pcm)
            .number("channels", channels)
            .number("bitrate", bitrate)
            .text("encoder", encoder)
    }
}

/// How a rendition encodes a window. `pcm` stands for the window's samples and those that lead up to it.
pub(crate) fn recipe(title: &Title, track: TrackId, pcm: Digest, tools: &Tools) -> Result<Recipe, StepError> {
    let (rendition, input) = title.rendition(track).ok_or_else(StepError::early)?;
    let (channels, encoder) = (input.source.channels, &tools.libraries.opus);
    Ok(RenditionKey { channels, bitrate: rendition.bitrate, encoder }.recipe(pcm))
}

impl StepKind for EncodeWindow {
    const KIND: Kind = Kind::Audio;
    const VERSION: u32 = 3;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/{}", track_label(title, self.track), self.window)
    }

    fn group(self, title: &Title) -> String {
        format!("{}/audio", track_label(title, self.track))
    }

    fn detail(self, title: &Title) -> String {
        time_range(title, self.track, self.window)
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.track.index(), Some(self.window.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<EncodeWindow> {
        match part {
            Part::Segments(track, pack) if title.rendition(track).is_some() => {
                title.unpacked_segments(track, pack).map(|window| EncodeWindow { track, window }).collect()
            }
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        let renditions = title.track_ids().filter(|&track| title.rendition(track).is_some());
        renditions.map(|track| title.chunks_of(track).len() as u64).sum()
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn told_by(self, title: &Title) -> Vec<Step> {
        let rendition = title.rendition(self.track);
        rendition.map(|(rendition, _)| AnalyzeAudio { audio: rendition.audio }.into()).into_iter().collect()
    }

    fn made_from(self, title: &Title) -> Vec<Step> {
        let rendition = title.rendition(self.track);
        rendition.map(|(rendition, _)| AnalyzeAudio { audio: rendition.audio }.into()).into_iter().collect()
    }

    fn packing(self, _: &Title) -> Packing {
        Packing::InPack
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<()>, StepError> {
        let pcm = view.chunk(self.track, self.window)?.identity;
        Ok(LookUp::Keys(vec![recipe(view.title, self.track, pcm, view.tools)?]))
    }

    fn accept(self, view: &View<'_>, result: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        let packets = view.chunk(self.track, self.window)?.frames;
        Ok(EncodeFacts::of(result, packets).map(|_| ()))
    }

    fn needs(self, title: &Title, _: usize) -> Needs {
        match title.rendition(self.track) {
            Some((rendition, _)) => Needs::AudioPass(rendition.audio),
            None => Needs::Slot { in_plans: false },
        }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let (rendition, input) = view.rendition(self.track)?;
        let window = view.chunk(self.track, self.window)?.clone();
        let framing = rendition.codec.framing();
        Ok(Work { source: input.source.clone(), framing, window, bitrate: rendition.bitrate })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let mut one = One(None);
        run_together(vec![(0, work)], context, &mut one)?;
        let output = one.0.ok_or_else(|| StepError::internal("a window that was not encoded"))?;
        Ok(output.map(|_| ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    /// The windows in the cache were found in other samples than the decoder makes here, though the file is
    /// the same: FFmpeg was built otherwise where they were found.
    fn recover(self, title: &mut Title, _: &mut Live, stop: &Stop) -> Recovery {
        match (stop, title.rendition(self.track)) {
            (Stop::AudioMismatch, Some((rendition, _))) => {
                Recovery::Redo(AnalyzeAudio { audio: rendition.audio }.into())
            }
            _ => Recovery::None,
        }
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let of = |pcm, channels, bitrate, encoder| {
            RenditionKey { channels, bitrate, encoder }.recipe(Digest([pcm; 32]))
        };
        vec![vec![of(1, 2, 96_000, "a"), of(2, 2, 96_000, "a"), of(1, 1, 96_000, "a"), of(1, 2, 97_000, "a"), of(1, 2, 96_000, "b")]]
    }
}

/// A batch of one step.
struct One(Option<Output<Fact>>);

impl Batch for One {
    fn begin(&mut self, _: usize) -> bool {
        true
    }

    fn done(&mut self, _: usize, output: Output<Fact>) {
        self.0 = Some(output);
    }
}

/// Encodes windows of one audio input in one pass over it. `works` are by their numbers in the batch, in the
/// order in which their windows lie in the source.
pub(crate) fn run_together(
    works: Vec<(usize, Work)>,
    context: &StepContext,
    batch: &mut dyn Batch,
) -> Result<(), Stop> {
    let Some((source, framing)) = works.first().map(|(_, work)| (work.source.clone(), work.framing)) else {
        return Ok(());
    };
    let mut blocks = Blocks::new(source.channels);
    // The latest frames, of which the last is number `count - 1`.
    let mut recent: VecDeque<(FrameDigest, Vec<i32>)> = VecDeque::new();
    let mut count = 0u64;
    // What other processes run, or have run meanwhile, is passed over before anything is decoded for it.
    let begin = |next: &mut usize, batch: &mut dyn Batch| {
        while works.get(*next).is_some_and(|(number, _)| !batch.begin(*number)) {
            *next += 1;
        }
    };
    let mut next = 0;
    begin(&mut next, batch);
    if next == works.len() {
        return Ok(());
    }
    let complete = Cell::new(false);
    let mut failure: Option<StepError> = None;
    // Whether the windows are of other samples. All of the audio is read then: it may be another file.
    let mismatch = Cell::new(false);
    let mut take = |block: &[i32]| {
        if mismatch.get() {
            return Ok(());
        }
        recent.push_back((digest_of(block), block.to_vec()));
        count += 1;
        while let Some((number, work)) =
            works.get(next).filter(|(_, work)| work.window.first + u64::from(work.window.frames) <= count)
        {
            let window = &work.window;
            let from = count - recent.len() as u64;
            let skip = lead_of(window.first, framing).saturating_sub(from) as usize;
            let own = (window.first - lead_of(window.first, framing)) as usize;
            let all = recent.iter().skip(skip).take(own + window.frames as usize);
            let (digests, pcm): (Vec<FrameDigest>, Vec<&[i32]>) =
                all.map(|(digest, block)| (*digest, block.as_slice())).unzip();
            if identity(&digests, window.frames as usize) != window.identity {
                mismatch.set(true);
                return Ok(());
            }
            let (before, within) = pcm.split_at(own);
            let packets = context.codecs.encode_audio(AudioWindow {
                channels: source.channels,
                bitrate: work.bitrate,
                lead: before.concat(),
                own: within.concat(),
            })?;
            match store_samples(context, Vec::new(), &packets) {
                Ok(result) => batch.done(*number, Output::new(result, Fact::EncodeWindow(()))),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
            next += 1;
            begin(&mut next, batch);
        }
        // What no window wants any more is dropped.
        let wanted = lead_of(works.get(next).map_or(count, |(_, work)| work.window.first), framing);
        while count - (recent.len() as u64) < wanted && recent.pop_front().is_some() {}
        complete.set(next == works.len() || failure.is_some());
        Ok(())
    };
    let cancelled = || complete.get() || context.is_cancelled();
    let mut sink = |samples: &[i32]| blocks.push(samples, &mut take);
    let decoded = context.codecs.decode_audio(&source, &cancelled, &mut sink);
    let decoded = decoded.and_then(|_| blocks.finish(&mut take));
    match (failure, decoded) {
        (Some(error), _) => Err(error.into()),
        (None, Err(error)) if !complete.get() => Err(StepError::from(error).into()),
        (None, _) if next < works.len() => Err(Stop::AudioMismatch),
        (None, _) => Ok(()),
    }
}
