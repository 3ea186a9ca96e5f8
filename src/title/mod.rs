//! What is known of one title, and nothing that touches the world: spans are known once the source is
//! indexed, tracks once it is known when frames are shown, chunks as the source is decoded, windows of
//! audio as that is analyzed. Which steps exist follows from it (`steps`).

pub(crate) mod assemble;
pub(crate) mod chunk;
pub(crate) mod chunking;
pub(crate) mod error;
pub(crate) mod ids;
pub(crate) mod part;
pub(crate) mod rung;
pub(crate) mod streaming;
pub(crate) mod track;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::Digest;
use crate::media::{AudioSource, AudioTrack, Index, VideoTrack};
use crate::package::{self, ContentId};
use crate::spec::{self, Ladder, PackageFormat};
use crate::stream::{self, Framing, Language};

use assemble::{ChunkList, Timing};
use chunk::{AudioFacts, Chunk};
use chunking::{ChunkMode, ChunkPolicy};
use error::TitleError;
use ids::{AudioId, ChunkId, PackId, SpanId, TitleId, TrackId};
use part::{Part, Revision, Revisions};
use rung::{Here, RungPlan, check_size};
use track::{Medium, PACK, Pack, Rendition, Track};

pub struct Title {
    pub id: TitleId,
    pub name: String,
    pub source: PathBuf,
    pub output: PathBuf,
    pub policy: ChunkPolicy,
    pub formats: Vec<PackageFormat>,
    spec_rungs: Vec<spec::Rung>,
    spec_audio: Vec<spec::AudioRendition>,
    /// Of the source file.
    pub digest: Option<Digest>,
    index: Option<Arc<Index>>,
    /// By pack of spans, whether its spans are decoded one by one, as the pack was not found.
    unpacked_spans: Vec<bool>,
    pub timing: Option<Timing>,
    /// The number of the first frame after each span.
    span_ends: Vec<u64>,
    /// The chunks that are known.
    chunks: Vec<Chunk>,
    /// Whether those are all.
    is_chunked: bool,
    /// How many of the first chunks may be encoded before their pack is looked up, as they were finished
    /// while the source was being decoded.
    early: BTreeSet<ChunkId>,
    pub tracks: Vec<Track>,
    pub audio: Vec<AudioInput>,
    revisions: Revisions,
    /// Of the spans, and of the chunks with all that rests on them.
    spans_revision: Revision,
    chunks_revision: Revision,
    touched: BTreeSet<Part>,
    /// Whether something was withdrawn, so that all parts are to be derived anew.
    is_withdrawn: bool,
}

/// One way in which renditions want an audio track of the source.
pub struct AudioInput {
    pub source: AudioSource,
    /// Known once it has been analyzed.
    pub analysis: Option<(AudioFacts, Arc<Vec<Chunk>>)>,
    revision: Revision,
}

impl Title {
    pub fn new(ladder: &Ladder, id: TitleId, title: &spec::Title) -> Title {
        let segments = &ladder.segments;
        let policy = ChunkPolicy {
            mode: match segments.mode {
                spec::SegmentMode::Content => ChunkMode::Content,
                spec::SegmentMode::Fixed => ChunkMode::Fixed,
            },
            target: segments.target.0,
            min: segments.min.0,
            max: segments.max.0,
        };
        Title {
            id,
            name: title.name.clone(),
            source: title.source.clone(),
            output: title.output.clone(),
            policy,
            formats: ladder.package.formats.clone(),
            spec_rungs: ladder.rungs.clone(),
            spec_audio: ladder.audio.clone(),
            digest: None,
            index: None,
            unpacked_spans: Vec::new(),
            timing: None,
            span_ends: Vec::new(),
            chunks: Vec::new(),
            is_chunked: false,
            early: BTreeSet::new(),
            tracks: Vec::new(),
            audio: Vec::new(),
            revisions: Revisions::default(),
            spans_revision: Revision::default(),
            chunks_revision: Revision::default(),
            touched: BTreeSet::from([Part::Source]),
            is_withdrawn: false,
        }
    }

    // What is learned, and withdrawn.

    pub fn learn_digest(&mut self, digest: Digest) {
        self.digest = Some(digest);
        self.touched.insert(Part::Source);
    }

    /// Takes the index, and returns warnings of encoders that make nothing of a rung. Fails if the rungs do
    /// not go with the source's video, as far as that is known before it is decoded.
    pub fn learn_index(&mut self, index: Arc<Index>) -> Result<Vec<String>, TitleError> {
        let warnings = self.spec_rungs.iter().map(|rung| check_size(rung, &index.video));
        let warnings = warnings.collect::<Result<Vec<_>, _>>()?.concat();
        for wanted in &self.spec_audio {
            choose_track(&index.audio, wanted)?;
        }
        self.set_index(index);
        Ok(warnings)
    }

    fn set_index(&mut self, index: Arc<Index>) {
        let packs = index.video.spans.len().div_ceil(PACK);
        self.unpacked_spans = vec![false; packs];
        self.touched.extend((0..packs).map(|pack| Part::Spans(PackId::new(pack))));
        self.touched.insert(Part::Chunks);
        self.index = Some(index);
    }

    /// The spans do not decode by themselves: the video track becomes one span, and all that rests on the
    /// spans is withdrawn. `None` where it is one span already.
    pub fn join_spans(&mut self) -> Option<Arc<Index>> {
        let index = self.index.as_ref().filter(|index| index.video.spans.len() > 1)?;
        let index = Arc::new(Index { video: index.video.as_one_span(), ..(**index).clone() });
        self.withdraw_tracks();
        self.spans_revision = self.revisions.next();
        self.set_index(Arc::clone(&index));
        Some(index)
    }

    /// Once it is known when frames are shown: the tracks, and the audio that they want. Returns warnings.
    pub fn learn_timing(&mut self, timing: Timing, here: Here<'_>) -> Result<Vec<String>, TitleError> {
        let index = self.index.clone().ok_or(TitleError::Internal("tracks without an index"))?;
        let mut warnings = Vec::new();
        // Put in place together, once nothing can fail any more.
        let (mut tracks, mut audio_inputs): (Vec<Track>, Vec<AudioInput>) = (Vec::new(), Vec::new());
        for rung in &self.spec_rungs {
            let plan = RungPlan::new(rung, &index.video, timing.frame_rate, here)?;
            tracks.push(Track::new(&plan.name.clone(), Medium::Video(Arc::new(plan))));
        }
        for wanted in &self.spec_audio {
            let Some(track) = choose_track(&index.audio, wanted)? else {
                warnings.push(format!("the source has no sound, so there is no rendition {}", wanted.name));
                continue;
            };
            let channels = wanted.channels.unwrap_or(if track.channels == 1 { 1 } else { 2 });
            let same = |audio: &AudioInput| {
                audio.source.track.stream == track.stream && audio.source.channels == channels
            };
            let audio = audio_inputs.iter().position(same).unwrap_or_else(|| {
                let source = AudioSource {
                    path: self.source.clone(),
                    track: track.clone(),
                    channels,
                    origin: (timing.origin, index.video.time_base),
                };
                audio_inputs.push(AudioInput { source, analysis: None, revision: Revision::default() });
                audio_inputs.len() - 1
            });
            let language = wanted.language.as_deref().or(Some(track.language.as_str()));
            let rendition = Rendition {
                audio: AudioId::new(audio),
                codec: wanted.codec.into(),
                bitrate: u32::try_from(wanted.bitrate.0).unwrap_or(u32::MAX),
                language: language.filter(|language| !language.is_empty()).and_then(Language::new),
            };
            tracks.push(Track::new(&wanted.name, Medium::Audio(Arc::new(rendition))));
        }
        (self.tracks, self.audio) = (tracks, audio_inputs);
        self.span_ends = timing
            .span_frames
            .iter()
            .scan(0u64, |end, &frames| {
                *end += u64::from(frames);
                Some(*end)
            })
            .collect();
        self.timing = Some(timing);
        self.touched.insert(Part::Audio);
        Ok(warnings)
    }

    /// The next chunk is finished while the source is still being decoded. Where its frames are in memory
    /// it is encoded at once, before its pack is looked up.
    pub fn learn_chunk(&mut self, chunk: Chunk, is_in_memory: bool) -> ChunkId {
        let id = ChunkId::new(self.chunks.len());
        self.chunks.push(chunk);
        if is_in_memory {
            self.early.insert(id);
        }
        for track in 0..self.tracks.len() {
            if self.tracks[track].rung().is_some() {
                self.touch_pack_of(TrackId::new(track), id, is_in_memory);
            }
        }
        id
    }

    fn touch_pack_of(&mut self, track: TrackId, chunk: ChunkId, is_in_memory: bool) {
        self.touch_packs(track);
        // Before it is full, a pack only has what is encoded early.
        if is_in_memory {
            self.touched.insert(Part::Segments(track, pack_of(chunk.index())));
        }
    }

    /// All chunks are known. Those that were handed out before must be the first of them.
    pub fn learn_chunks(&mut self, list: &ChunkList) {
        self.chunks.clone_from(&list.chunks);
        self.is_chunked = true;
        for track in 0..self.tracks.len() {
            self.touch_packs(TrackId::new(track));
        }
        self.touched.insert(Part::Package);
    }

    /// Whether chunks and timing that are known are those of a list.
    pub fn agrees_with(&self, list: &ChunkList) -> bool {
        self.timing.as_ref() == Some(&list.timing) && list.chunks.starts_with(&self.chunks)
    }

    /// Withdraws the tracks and all that follows from them.
    pub fn withdraw_tracks(&mut self) {
        self.timing = None;
        self.chunks.clear();
        self.early.clear();
        self.is_chunked = false;
        self.tracks.clear();
        self.audio.clear();
        self.chunks_revision = self.revisions.next();
        self.is_withdrawn = true;
    }

    pub fn learn_audio(&mut self, audio: AudioId, facts: AudioFacts, mut windows: Vec<Chunk>) {
        for window in &mut windows {
            window.start += facts.offset.max(0) as u64;
        }
        if let Some(input) = self.audio.get_mut(audio.index()) {
            input.analysis = Some((facts, Arc::new(windows)));
        }
        for track in 0..self.tracks.len() {
            if self.tracks[track].rendition().is_some_and(|rendition| rendition.audio == audio) {
                self.touch_packs(TrackId::new(track));
            }
        }
        self.touched.insert(Part::Package);
    }

    /// Withdraws the windows of an audio input and what rests on them.
    pub fn withdraw_audio(&mut self, audio: AudioId) {
        let Some(input) = self.audio.get_mut(audio.index()) else { return };
        input.analysis = None;
        input.revision = self.revisions.next();
        for track in &mut self.tracks {
            if track.rendition().is_some_and(|rendition| rendition.audio == audio) {
                track.packs.clear();
            }
        }
        self.is_withdrawn = true;
    }

    /// A pack of spans was not found: its spans are looked up one by one. False where they are already.
    pub fn unpack_spans(&mut self, pack: PackId) -> bool {
        let Some(unpacked) = self.unpacked_spans.get_mut(pack.index()) else { return false };
        self.touched.insert(Part::Spans(pack));
        !std::mem::replace(unpacked, true)
    }

    /// The same for a pack of segments.
    pub fn unpack(&mut self, track: TrackId, pack: PackId) -> bool {
        let made = self.tracks.get_mut(track.index()).and_then(|track| track.packs.get_mut(pack.index()));
        let Some(made) = made else { return false };
        self.touched.insert(Part::Segments(track, pack));
        !std::mem::replace(&mut made.unpacked, true)
    }

    /// The segments of a pack are known, or lost again.
    pub fn learn_segments(&mut self, track: TrackId, pack: PackId, segments: Option<Arc<Vec<ContentId>>>) {
        let made = self.tracks.get_mut(track.index()).and_then(|track| track.packs.get_mut(pack.index()));
        if let Some(made) = made {
            made.segments = segments;
        }
    }

    /// Whether there is a part to be derived anew, and then all of those, of which `known` are some.
    pub fn take_touched(&mut self, known: impl FnOnce() -> Vec<Part>) -> BTreeSet<Part> {
        let mut touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.is_withdrawn) {
            touched.extend(known());
        }
        touched
    }

    /// What a part's steps are told apart by from those of the same name that were withdrawn.
    pub fn revision(&self, part: Part) -> Revision {
        let audio = |track: &Track| {
            let input = track.rendition().and_then(|rendition| self.audio.get(rendition.audio.index()));
            input.map_or(Revision::default(), |input| input.revision)
        };
        match part {
            Part::Source => Revision::default(),
            Part::Spans(_) | Part::Chunks => self.spans_revision,
            Part::Audio => self.chunks_revision,
            Part::Segments(track, _) => {
                self.tracks.get(track.index()).map_or(Revision::default(), audio).max(self.chunks_revision)
            }
            Part::Package => self.tracks.iter().map(audio).fold(self.chunks_revision, Revision::max),
        }
    }

    // What is known.

    pub fn index(&self) -> Option<&Arc<Index>> {
        self.index.as_ref()
    }

    pub fn video(&self) -> Option<&VideoTrack> {
        self.index.as_ref().map(|index| &index.video)
    }

    /// How many packs of spans there are.
    pub fn span_packs(&self) -> usize {
        self.unpacked_spans.len()
    }

    pub fn spans_of(&self, pack: PackId) -> Range<usize> {
        pack_range(pack, self.video().map_or(0, |video| video.spans.len()))
    }

    pub fn is_span_pack_unpacked(&self, pack: PackId) -> bool {
        self.unpacked_spans.get(pack.index()).copied().unwrap_or(false)
    }

    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    pub fn is_chunked(&self) -> bool {
        self.is_chunked
    }

    pub fn track(&self, track: TrackId) -> Option<&Track> {
        self.tracks.get(track.index())
    }

    pub fn track_ids(&self) -> impl Iterator<Item = TrackId> + use<> {
        (0..self.tracks.len()).map(TrackId::new)
    }

    pub fn rung(&self, track: TrackId) -> Option<&Arc<RungPlan>> {
        self.track(track)?.rung()
    }

    pub fn rendition(&self, track: TrackId) -> Option<(&Arc<Rendition>, &AudioInput)> {
        let rendition = self.track(track)?.rendition()?;
        Some((rendition, self.audio.get(rendition.audio.index())?))
    }

    /// The chunks of a rung, or windows of a rendition, that are known.
    pub fn chunks_of(&self, track: TrackId) -> &[Chunk] {
        match self.track(track).map(|track| &track.medium) {
            None => &[],
            Some(Medium::Video(_)) => &self.chunks,
            Some(Medium::Audio(rendition)) => self
                .audio
                .get(rendition.audio.index())
                .and_then(|audio| audio.analysis.as_ref())
                .map_or(&[], |(_, windows)| windows),
        }
    }

    pub fn chunk(&self, track: TrackId, chunk: ChunkId) -> Option<&Chunk> {
        self.chunks_of(track).get(chunk.index())
    }

    /// Whether all chunks of a track are known.
    pub fn has_all_chunks(&self, track: TrackId) -> bool {
        match self.track(track).map(|track| &track.medium) {
            None => false,
            Some(Medium::Video(_)) => self.is_chunked,
            Some(Medium::Audio(rendition)) => {
                self.audio.get(rendition.audio.index()).is_some_and(|audio| audio.analysis.is_some())
            }
        }
    }

    /// Whether all is known that is to be packaged.
    pub fn has_package(&self) -> bool {
        self.is_chunked && self.track_ids().all(|track| self.has_all_chunks(track))
    }

    pub fn has_format(&self, format: PackageFormat) -> bool {
        self.formats.contains(&format)
    }

    /// Whether a chunk was finished while the source was being decoded, with its frames in memory.
    pub fn is_early(&self, track: TrackId, chunk: ChunkId) -> bool {
        self.rung(track).is_some() && self.early.contains(&chunk)
    }

    pub fn pack(&self, track: TrackId, pack: PackId) -> Option<&Pack> {
        self.track(track)?.packs.get(pack.index())
    }

    pub fn is_unpacked(&self, track: TrackId, pack: PackId) -> bool {
        self.pack(track, pack).is_some_and(|pack| pack.unpacked)
    }

    /// The segments of a pack, as far as their chunks are known.
    pub fn segments_of(&self, track: TrackId, pack: PackId) -> Range<usize> {
        pack_range(pack, self.chunks_of(track).len())
    }

    /// Of a pack: which segments have steps of their own.
    pub fn unpacked_segments(&self, track: TrackId, pack: PackId) -> impl Iterator<Item = ChunkId> + '_ {
        let all = self.is_unpacked(track, pack);
        let segments = self.segments_of(track, pack).map(ChunkId::new);
        segments.filter(move |&chunk| all || self.is_early(track, chunk))
    }

    /// What a track is to whoever packages it; `None` before it is known when frames are shown.
    pub fn described(&self, id: TrackId) -> Option<stream::Track> {
        let track = self.track(id)?;
        Some(match &track.medium {
            Medium::Video(plan) => {
                let timing = self.timing.as_ref()?;
                plan.contract.track(timing.timescale, timing.frame_rate)
            }
            Medium::Audio(rendition) => {
                let source = &self.rendition(id)?.1.source;
                let first = self.track_ids().find(|&id| self.rendition(id).is_some());
                let role = if first == Some(id) { stream::Role::Main } else { stream::Role::Alternate };
                let (rate, language) = (source.track.sample_rate, rendition.language.clone());
                rendition.codec.track(source.channels, rate, language, role)
            }
        })
    }

    /// In which portions the renditions of an audio input take it.
    pub fn framing(&self, audio: AudioId) -> Option<Framing> {
        let mut renditions = self.tracks.iter().filter_map(|track| track.rendition());
        Some(renditions.find(|rendition| rendition.audio == audio)?.codec.framing())
    }

    /// Ticks a second of a track's times.
    pub fn timescale(&self, track: TrackId) -> u32 {
        self.described(track).map_or(1, |track| track.timescale)
    }

    /// Seconds that the source lasts, as far as it is cut into chunks.
    pub fn seconds(&self) -> f64 {
        let end = self.chunks.last().map_or(0, |chunk| chunk.start + chunk.duration());
        self.timing.as_ref().map_or(0.0, |timing| timing.seconds(end))
    }

    /// The one target duration of all the title's playlists, in seconds.
    pub fn target_duration(&self) -> u64 {
        let of_track = |track: TrackId| {
            let ticks = self.chunks_of(track).iter().map(Chunk::duration);
            package::target_duration(self.timescale(track), ticks)
        };
        self.track_ids().map(of_track).max().unwrap_or(1)
    }

    /// How much there will be to encode by what the container says: rungs, seconds, luma samples of all frames.
    pub fn expected_work(&self) -> (u64, f64, u64) {
        let Some(video) = self.video() else { return (0, 0.0, 0) };
        let sizes = self.spec_rungs.iter().filter_map(|rung| rung::size(rung, video).ok());
        let samples = sizes.map(|(width, height)| u64::from(width) * u64::from(height) * video.packets);
        (self.spec_rungs.len() as u64, video.claimed_seconds(), samples.sum())
    }

    /// The spans that a chunk's frames are decoded from.
    pub fn spans_under(&self, chunk: ChunkId) -> Range<usize> {
        let ends = &self.span_ends;
        self.chunks.get(chunk.index()).map_or(0..0, |chunk| {
            let end = chunk.first + u64::from(chunk.frames);
            let first = ends.partition_point(|&end| end <= chunk.first);
            first..(ends.partition_point(|&span_end| span_end < end) + 1).min(ends.len())
        })
    }

    // Packs of a track are known as soon as they are full, and the last one once all chunks are known.

    fn touch_packs(&mut self, id: TrackId) {
        let (known, all) = (self.chunks_of(id).len(), self.has_all_chunks(id));
        let packs = if all { known.div_ceil(PACK) } else { known / PACK };
        let Some(track) = self.tracks.get_mut(id.index()) else { return };
        let before = track.packs.len();
        track.packs.resize_with(packs.max(before), Pack::default);
        self.touched.extend((before..packs).map(|pack| Part::Segments(id, PackId::new(pack))));
    }
}

fn pack_range(pack: PackId, all: usize) -> Range<usize> {
    let first = (pack.index() * PACK).min(all);
    first..all.min(first + PACK)
}

/// The pack that a span or segment is in.
pub fn pack_of(number: usize) -> PackId {
    PackId::new(number / PACK)
}

/// The spans of a source that decode by themselves.
pub fn span_ids(range: Range<usize>) -> impl Iterator<Item = SpanId> {
    range.map(SpanId::new)
}

fn choose_track<'a>(
    tracks: &'a [AudioTrack],
    wanted: &spec::AudioRendition,
) -> Result<Option<&'a AudioTrack>, TitleError> {
    match wanted.track {
        Some(number) => tracks.get(number as usize).map(Some).ok_or_else(|| {
            TitleError::Spec(format!(
                "audio rendition {}: the source has no audio track {number}; it has {}, counted from 0",
                wanted.name,
                tracks.len()
            ))
        }),
        None => Ok(tracks.iter().find(|track| track.default).or(tracks.first())),
    }
}

#[cfg(test)]
mod tests;
