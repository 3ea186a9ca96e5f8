//! The film while it is being decoded: spans that come are put in order, and chunks that are
//! decided become encodes at once, out of the frames that have just been decoded. Only speed
//! hangs on it: what the chunk step says of the whole film in the end is what counts.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use crate::graph::cutting::{Cutting, Frames};
use crate::graph::error::StepError;
use crate::graph::event::{Event, Origin};
use crate::graph::film::{DecodedSpan, Film, Timing};
use crate::graph::frames::ChunkFrames;
use crate::graph::rung::who_is_here;
use crate::graph::step::{State, Step};
use crate::graph::track::REEL;

use super::Scheduler;
use crate::cache::Cache;

impl Scheduler<'_> {
    /// Makes room: kept frames that are no chunk yet will be decoded again. False where there were none.
    pub(super) fn let_go(&mut self) -> bool {
        let mut dropped = false;
        for cutting in self.titles.iter_mut().filter_map(|title| title.cutting.as_mut()) {
            dropped |= cutting.drop_frames();
        }
        dropped
    }

    /// A span has been decoded.
    pub(super) fn take_span(
        &mut self,
        number: usize,
        step: Step,
        decoded: DecodedSpan,
        frames: Frames,
    ) -> Result<(), StepError> {
        let Step::DecodeSpan { span } = step else { return Ok(()) };
        if !self.start_cutting(number)? {
            return Ok(());
        }
        if let Some(cutting) = &mut self.titles[number].cutting {
            cutting.arrive(span, decoded, frames);
        }
        self.cut(number)
    }

    /// Whether the film can be cut while it is decoded; sets out to do so the first time.
    fn start_cutting(&mut self, number: usize) -> Result<bool, StepError> {
        let title = &self.titles[number];
        if title.cutting.is_some() {
            return Ok(true);
        }
        // Known already, or given up.
        if title.timing.is_some() || title.cut_at_end {
            return Ok(false);
        }
        let Some(cutting) = title.readers.as_ref().and_then(|r| Cutting::new(r.track(), title.policy)) else {
            self.titles[number].cut_at_end = true;
            return Ok(false);
        };
        let (timing, duration) = (cutting.timing().clone(), cutting.duration());
        self.titles[number].cutting = Some(Box::new(cutting));
        self.begin_tracks(number, timing, duration)?;
        Ok(true)
    }

    /// The tracks are known, and with them how much there is to encode.
    pub(super) fn begin_tracks(
        &mut self,
        number: usize,
        timing: Timing,
        duration: u64,
    ) -> Result<(), StepError> {
        let frames: u64 = timing.span_frames.iter().map(|&frames| u64::from(frames)).sum();
        let seconds = timing.seconds(duration);
        let title = &mut self.titles[number];
        let here = who_is_here(&self.tools.encoders, &self.worker.unusable);
        let threads = self.settings.options.jobs.min(8);
        let codecs = (Arc::clone(&self.worker.codecs), Arc::clone(&self.worker.decoded));
        let warnings = title.grow_tracks(&mut self.graph, timing, threads, codecs, &here)?;
        for message in warnings {
            (self.observe)(&Event::Warning { title: title.name.clone(), message });
        }
        let pictures = title
            .tracks
            .iter()
            .filter_map(|track| track.rung())
            .map(|rung| u64::from(rung.picture.width) * u64::from(rung.picture.height) * frames);
        (self.observe)(&Event::Film {
            title: title.name.clone(),
            rungs: title.tracks.iter().filter(|track| track.rung().is_some()).count() as u64,
            seconds,
            samples: pictures.sum(),
        });
        Ok(())
    }

    /// Puts together what has come, as far as there is no gap.
    pub(super) fn cut(&mut self, number: usize) -> Result<(), StepError> {
        loop {
            let title = &mut self.titles[number];
            let Some(cutting) = &mut title.cutting else { return Ok(()) };
            if cutting.advance().is_none() {
                // The frames are not those that the time stamps tell of: all must be seen first.
                self.stop_cutting(number);
                return Ok(());
            }
            while let Some(decided) =
                self.titles[number].cutting.as_mut().and_then(|cutting| cutting.next_chunk())
            {
                let chunk = self.titles[number].chunks.len();
                self.titles[number].chunks.push(decided.chunk.clone());
                if let (Some(frames), Some(source)) = (decided.frames, self.titles[number].frames.clone()) {
                    let frames = Arc::new(ChunkFrames::here(source, decided.chunk, frames));
                    self.ready.settle((number, chunk), frames);
                    self.settled.push((number, chunk));
                    self.grow_chunk(number, chunk);
                }
            }
            let title = &self.titles[number];
            let Some(span) = title.cutting.as_ref().and_then(|cutting| cutting.wants()) else {
                return Ok(());
            };
            let Some(cached) = self.cached_span(number, span) else { return Ok(()) };
            let Some(decoded) = cached else {
                // Lost: the chunk step will have it made again.
                self.stop_cutting(number);
                return Ok(());
            };
            if let Some(cutting) = &mut self.titles[number].cutting {
                cutting.arrive(span, decoded, None);
            }
        }
    }

    /// A span that was decoded by an earlier build, if it was: out of its reel, or by itself.
    /// `Some(None)` where the cache has lost it.
    fn cached_span(&mut self, number: usize, span: usize) -> Option<Option<DecodedSpan>> {
        let title = &self.titles[number];
        let reel = title.span_reels.get(span / REEL)?;
        let node = title.decode.get(span).copied().flatten().unwrap_or(reel.node);
        let State::Done { result, origin: Origin::Cached } = &self.graph[node].state else { return None };
        let load = || self.worker.cache.blob(result.blobs.first()?).ok()?;
        if node != reel.node {
            return Some(load().and_then(|bytes| postcard::from_bytes(&bytes).ok()));
        }
        let place = span - reel.spans.start;
        if let Some((_, spans)) = title.unwound.as_ref().filter(|(unwound, _)| *unwound == span / REEL) {
            return Some(spans.get(place).cloned());
        }
        let spans: Option<Vec<DecodedSpan>> = load().and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let found = spans.as_ref().and_then(|spans| spans.get(place).cloned());
        self.titles[number].unwound = spans.map(|spans| (span / REEL, spans));
        Some(found)
    }

    /// Encodes of a chunk whose frames are at hand.
    fn grow_chunk(&mut self, number: usize, chunk: usize) {
        let title = &mut self.titles[number];
        for track in 0..title.tracks.len() {
            if title.tracks[track].rung().is_some() {
                title.grow_piece(&mut self.graph, track, chunk);
            }
        }
    }

    /// Takes back all that rests on a cut that may not hold.
    pub(super) fn stop_cutting(&mut self, number: usize) {
        let title = &mut self.titles[number];
        title.cut_at_end = true;
        title.cutting = None;
        self.drop_tracks(number);
    }

    fn drop_tracks(&mut self, number: usize) {
        self.ready.forget_tracks(number);
        let nodes: Vec<NodeIndex> = self.titles[number].ungrow_tracks(&self.graph);
        for node in nodes {
            if !matches!(self.graph[node].state, State::Done { .. } | State::Failed) {
                self.drop_node(node);
            }
        }
    }

    /// The whole film is known.
    pub(super) fn take_film(&mut self, number: usize, film: &Film) -> Result<(), StepError> {
        let title = &mut self.titles[number];
        // With many titles open files would run out.
        title.readers = None;
        title.unwound = None;
        title.cutting = None;
        let holds = title.timing.as_ref() == Some(&film.timing) && film.chunks.starts_with(&title.chunks);
        if title.timing.is_some() && !holds {
            self.drop_tracks(number);
        }
        if self.titles[number].timing.is_none() {
            self.begin_tracks(number, film.timing.clone(), film.duration())?;
        }
        let title = &mut self.titles[number];
        title.chunks.clone_from(&film.chunks);
        title.is_cut = true;
        (self.observe)(&Event::Cut { title: title.name.clone(), chunks: film.chunks.len() as u64 });
        Ok(())
    }
}
