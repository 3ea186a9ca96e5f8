//! What a title is published as: the names of its files, its playlists, its measured bit rates.
//! Segments are named by number and content, so that a new version never overwrites what a
//! player of the old one may still ask for; playlists keep their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use rayon::prelude::*;

use crate::cache::{ActionResult, Digest};
use crate::package::{
    self, Bandwidth, ContentId, FileList, HlsError, MediaPlaylist, PlaylistSegment, PublishFile, RelPath,
    Rendition, Role, SegmentSize,
};
use crate::stream::{self, Framing};

use super::composed::{Composed, ComposedReel, composition};
use super::error::StepError;
use super::event::{TitleSummary, TrackSummary};
use super::film::{Piece, Timing};
use super::recipe::Recipe;
use super::title::{Graph, Title};
use super::track::Medium;

/// The multivariant playlist's name.
pub const ENTRY: &str = "master.m3u8";
/// A media playlist's name, in its track's folder.
const PLAYLIST: &str = "playlist.m3u8";

fn path(path: String) -> Result<RelPath, StepError> {
    RelPath::new(path).map_err(StepError::internal)
}

fn segment_name(number: usize, file: &ContentId) -> String {
    format!("{number:05}-{}.m4s", Digest::from(file.digest).short())
}

fn init_name(file: &ContentId) -> String {
    format!("init-{}.mp4", Digest::from(file.digest).short())
}

/// The segments of one track as they are.
struct Segments {
    files: Vec<ContentId>,
    /// Ticks.
    durations: Vec<u64>,
    timescale: u32,
}

/// What a media playlist is made of.
pub struct Playlist {
    init: ContentId,
    segments: Segments,
    target_duration: u64,
}

impl Playlist {
    pub fn recipe(&self, medium: &str) -> Recipe {
        let Segments { files, durations, timescale } = &self.segments;
        let listed = files.iter().zip(durations).flat_map(|(file, duration)| {
            file.digest.as_bytes().iter().copied().chain(duration.to_le_bytes())
        });
        let listed = Digest::of(&listed.collect::<Vec<u8>>());
        Recipe::media_playlist(medium, self.init.digest.into(), self.target_duration, *timescale, listed)
    }

    pub fn text(&self) -> Result<String, StepError> {
        let segments = &self.segments;
        let listed = segments.files.iter().zip(&segments.durations).enumerate();
        let listed: Vec<PlaylistSegment> = listed
            .map(|(n, (file, &duration))| {
                Ok(PlaylistSegment { path: path(segment_name(n + 1, file))?, duration })
            })
            .collect::<Result<_, StepError>>()?;
        Ok(package::media_playlist(&MediaPlaylist {
            timescale: segments.timescale,
            target_duration: self.target_duration,
            init: &path(init_name(&self.init))?,
            segments: &listed,
        }))
    }
}

impl Segments {
    fn sizes(&self) -> Vec<SegmentSize> {
        let pairs = self.files.iter().zip(&self.durations);
        pairs.map(|(file, &duration)| SegmentSize { bytes: file.size, duration }).collect()
    }
}

impl Title {
    /// What a step came to that made a file.
    fn result<'a>(
        &self,
        graph: &'a Graph,
        node: Option<NodeIndex>,
    ) -> Result<&'a Arc<ActionResult>, StepError> {
        let result = node.and_then(|node| graph[node].result());
        result.ok_or_else(|| StepError::internal("a file is not made yet"))
    }

    fn file(&self, graph: &Graph, node: Option<NodeIndex>) -> Result<ContentId, StepError> {
        Ok(composition(self.result(graph, node)?)?.content)
    }

    fn segments(&self, track: usize) -> Result<Segments, StepError> {
        let early = || StepError::internal("a segment is not made yet");
        Ok(Segments {
            files: self.track(track)?.segments().ok_or_else(early)?,
            durations: self.durations(track),
            timescale: self.timescale(track)?,
        })
    }

    fn durations(&self, track: usize) -> Vec<u64> {
        self.pieces(track).iter().map(Piece::duration).collect()
    }

    /// What a track is to whoever packages it.
    pub fn described(&self, track: usize) -> Result<stream::Track, StepError> {
        let made = self.track(track)?;
        Ok(match &made.medium {
            Medium::Video(plan) => {
                let timing = self.timing()?;
                plan.contract.track(timing.timescale, timing.frame_rate)
            }
            Medium::Audio(rendition) => {
                let source = &self.rendition(track)?.1.source;
                let is_first = self.tracks.iter().find(|track| track.rendition().is_some());
                let is_first = is_first.is_some_and(|first| std::ptr::eq(first, made));
                let role = if is_first { stream::Role::Main } else { stream::Role::Alternate };
                let (rate, language) = (source.track.sample_rate, rendition.language.clone());
                rendition.codec.track(source.channels, rate, language, role)
            }
        })
    }

    /// In which portions the renditions of a sound take it.
    pub fn framing(&self, sound: usize) -> Result<Framing, StepError> {
        let renditions = self.tracks.iter().filter_map(|track| track.rendition());
        let rendition = renditions.into_iter().find(|rendition| rendition.sound == sound);
        let rendition = rendition.ok_or_else(|| StepError::internal("a sound without a rendition"))?;
        Ok(rendition.codec.framing())
    }

    fn timescale(&self, track: usize) -> Result<u32, StepError> {
        Ok(self.described(track)?.timescale)
    }

    fn timing(&self) -> Result<&Timing, StepError> {
        self.timing.as_ref().ok_or_else(|| StepError::internal("the film is not cut yet"))
    }

    /// Seconds that the film lasts, as far as it is cut.
    pub fn seconds(&self) -> f64 {
        let end = self.chunks.last().map_or(0, |chunk| chunk.start + chunk.duration());
        self.timing.as_ref().map_or(0.0, |timing| timing.seconds(end))
    }

    /// The one target duration of all the title's playlists, in seconds.
    pub fn find_target_duration(&self) -> u64 {
        let of_track = |track: usize| {
            let timescale = self.timescale(track).ok()?;
            Some(package::target_duration(timescale, self.pieces(track).iter().map(Piece::duration)))
        };
        (0..self.tracks.len()).filter_map(of_track).max().unwrap_or(1)
    }

    /// The playlist of one track.
    pub fn media_playlist(&self, graph: &Graph, track: usize) -> Result<Playlist, StepError> {
        let init = self.file(graph, self.track(track)?.init)?;
        Ok(Playlist { init, segments: self.segments(track)?, target_duration: self.target_duration })
    }

    pub fn multivariant(&self) -> Result<String, StepError> {
        let target = self.target_duration;
        let mut renditions = Vec::with_capacity(self.tracks.len());
        for (number, track) in self.tracks.iter().enumerate() {
            let segments = self.segments(number)?;
            renditions.push(Rendition {
                playlist: path(format!("{}/{PLAYLIST}", track.name))?,
                name: track.name.clone(),
                track: self.described(number)?,
                bandwidth: Bandwidth::measure(&segments.sizes(), segments.timescale, target),
            });
        }
        package::multivariant_playlist(&renditions)
            .map_err(|error: HlsError| StepError::Spec(error.to_string()))
    }

    /// Every file of the output folder.
    pub fn files(&self, graph: &Graph) -> Result<FileList, StepError> {
        let file = |name: String, file: ContentId, role: Role| {
            Ok(PublishFile { path: path(name)?, size: file.size, digest: file.digest, role })
        };
        let mut tracks = Vec::new();
        for (number, track) in self.tracks.iter().enumerate() {
            let (init, playlist) = (self.file(graph, track.init)?, self.file(graph, track.playlist)?);
            tracks.push((&track.name, init, self.segments(number)?.files, playlist));
        }
        let of_track =
            |(folder, init, segments, playlist): (&String, ContentId, Vec<ContentId>, ContentId)| {
                let init = [(format!("{folder}/{}", init_name(&init)), init, Role::Media)];
                let segments = segments.into_iter().enumerate().map(|(number, segment)| {
                    (format!("{folder}/{}", segment_name(number + 1, &segment)), segment, Role::Media)
                });
                let playlist = [(format!("{folder}/{PLAYLIST}"), playlist, Role::Playlist)];
                let all = init.into_iter().chain(segments).chain(playlist);
                all.map(|(name, content, role)| file(name, content, role)).collect()
            };
        let by_track: Vec<Vec<PublishFile>> =
            tracks.into_par_iter().map(of_track).collect::<Result<_, StepError>>()?;
        let mut files = Vec::with_capacity(by_track.iter().map(Vec::len).sum::<usize>() + 1);
        by_track.into_iter().for_each(|of_track| files.extend(of_track));
        files.push(file(ENTRY.to_owned(), self.file(graph, self.multivariant)?, Role::Entry)?);
        FileList::new(files).map_err(StepError::Publish)
    }

    /// What the files of the output folder are made of.
    pub fn composed(&self, graph: &Graph) -> Result<Composed, StepError> {
        let mut single = BTreeMap::new();
        let mut reels = Vec::new();
        for track in &self.tracks {
            let (init, playlist) = (self.result(graph, track.init)?, self.result(graph, track.playlist)?);
            let init_path = format!("{}/{}", track.name, init_name(&composition(init)?.content));
            single.insert(path(init_path)?, Arc::clone(init));
            single.insert(path(format!("{}/{PLAYLIST}", track.name))?, Arc::clone(playlist));
            for reel in &track.reels {
                let result = self.result(graph, Some(reel.node))?;
                let none = || StepError::internal("a reel without what its segments are made of");
                reels.push(ComposedReel {
                    segments: Arc::clone(reel.segments.as_ref().ok_or_else(none)?),
                    compositions: result.blobs.get(1).copied().ok_or_else(none)?,
                });
            }
        }
        single.insert(path(ENTRY.to_owned())?, Arc::clone(self.result(graph, self.multivariant)?));
        Ok(Composed { single, reels })
    }

    /// Warnings for rungs whose busiest stretch has more bits than their level allows. At constant
    /// quality that is not known before they are encoded, when the level is agreed on.
    pub fn above_their_levels(&self, summary: &TitleSummary) -> Vec<String> {
        let mbits = |bits: u64| format!("{:.1} Mbit/s", bits as f64 / 1e6);
        let rungs = self.tracks.iter().filter_map(|track| track.rung()).zip(&summary.rungs);
        let above = rungs.filter_map(|(rung, made)| {
            let limit = rung.contract.bit_rate_limit()?;
            (made.peak > limit.bits).then(|| {
                format!(
                    "rung {}: its busiest stretch has {}, more than the {} that {} allows, which is \
                     that of its size and rate; decoders in hardware may not keep up: raise its `crf`",
                    made.name,
                    mbits(made.peak),
                    mbits(limit.bits),
                    limit.level
                )
            })
        });
        above.collect()
    }

    /// What was published, for the closing summary. `encoded` tells whether a node ran.
    pub fn summary(&self, encoded: &dyn Fn(NodeIndex) -> bool) -> Result<TitleSummary, StepError> {
        let target = self.target_duration;
        let mut rungs = Vec::new();
        let mut audio = Vec::new();
        for (number, track) in self.tracks.iter().enumerate() {
            let segments = self.segments(number)?;
            let bandwidth = Bandwidth::measure(&segments.sizes(), segments.timescale, target);
            let ran = track.pieces.iter().filter_map(|nodes| nodes.encode).filter(|&node| encoded(node));
            let stream::Track { medium, codecs, .. } = self.described(number)?;
            let size = match medium {
                stream::Medium::Video { width, height, .. } => Some((width, height)),
                stream::Medium::Audio { .. } => None,
            };
            let made = TrackSummary {
                name: track.name.clone(),
                size,
                codecs,
                segments: segments.files.len() as u64,
                encoded: ran.count() as u64,
                bytes: segments.files.iter().map(|file| file.size).sum(),
                average: bandwidth.average,
                peak: bandwidth.peak,
            };
            if track.rung().is_some() { rungs.push(made) } else { audio.push(made) }
        }
        let entry = self.output.join(ENTRY).display().to_string();
        Ok(TitleSummary { name: self.name.clone(), entry, seconds: self.seconds(), rungs, audio })
    }
}
