//! What a title is published as: the names of its files, its playlists, its measured bit rates.
//! Segments are named by number and content, so that a new version never overwrites what a
//! player of the old one may still ask for; playlists keep their names.

use petgraph::graph::NodeIndex;

use crate::cache::BlobRef;
use crate::media::OPUS_RATE;
use crate::package::{
    self, Bandwidth, HlsError, MediaPlaylist, MultivariantPlaylist, PlaylistSegment, PublishFile, RelPath,
    Role, SegmentSize, Variant, VideoRange,
};

use super::error::StepError;
use super::event::{TitleSummary, TrackSummary};
use super::prepare::blob;
use super::title::{Graph, Title};

/// The multivariant playlist's name.
pub const ENTRY: &str = "master.m3u8";
/// A media playlist's name, in its track's folder.
const PLAYLIST: &str = "playlist.m3u8";

fn path(path: String) -> Result<RelPath, StepError> {
    RelPath::new(path).map_err(StepError::internal)
}

fn segment_name(number: usize, blob: &BlobRef) -> String {
    format!("{number:05}-{}.m4s", blob.digest.short())
}

fn init_name(blob: &BlobRef) -> String {
    format!("init-{}.mp4", blob.digest.short())
}

/// The segments of one track as they are.
struct Segments {
    blobs: Vec<BlobRef>,
    /// Ticks.
    durations: Vec<u64>,
    timescale: u32,
}

impl Segments {
    fn sizes(&self) -> Vec<SegmentSize> {
        let pairs = self.blobs.iter().zip(&self.durations);
        pairs.map(|(blob, &duration)| SegmentSize { bytes: blob.size, duration }).collect()
    }
}

impl Title {
    fn blob_of(&self, graph: &Graph, node: NodeIndex) -> Result<BlobRef, StepError> {
        blob(graph[node].result().ok_or_else(|| StepError::internal("a file is not made yet"))?)
    }

    fn video_segments(&self, graph: &Graph, rung: usize) -> Result<Segments, StepError> {
        let film = self.film()?;
        Ok(Segments {
            blobs: self.nodes.segment[rung]
                .iter()
                .map(|&node| self.blob_of(graph, node))
                .collect::<Result<_, _>>()?,
            durations: film.chunks.iter().map(|chunk| chunk.duration()).collect(),
            timescale: film.timescale,
        })
    }

    fn audio_segments(&self, graph: &Graph, rendition: usize) -> Result<Segments, StepError> {
        let nodes = &self.nodes.audio_segment[rendition];
        Ok(Segments {
            blobs: nodes.iter().map(|&node| self.blob_of(graph, node)).collect::<Result<_, _>>()?,
            durations: self.audio_durations(rendition),
            timescale: OPUS_RATE,
        })
    }

    fn audio_durations(&self, rendition: usize) -> Vec<u64> {
        let frame = crate::media::OPUS_FRAME as u64;
        let slices = self.renditions.get(rendition).map_or(&[][..], |plan| &plan.slices);
        slices
            .iter()
            .map(|s| (s.packets.end - s.packets.start - 1) * frame + u64::from(s.last_duration))
            .collect()
    }

    /// The one target duration of all the title's playlists, in seconds.
    fn target_duration(&self) -> Result<u64, StepError> {
        let film = self.film()?;
        let video =
            package::target_duration(film.timescale, film.chunks.iter().map(|chunk| chunk.duration()));
        let audio =
            (0..self.renditions.len()).map(|n| package::target_duration(OPUS_RATE, self.audio_durations(n)));
        Ok(audio.chain([video]).max().unwrap_or(video))
    }

    pub fn video_playlist(&self, graph: &Graph, rung: usize) -> Result<String, StepError> {
        let init = self.blob_of(graph, self.nodes.video_init[rung])?;
        self.playlist(&init, &self.video_segments(graph, rung)?)
    }

    pub fn audio_playlist(&self, graph: &Graph, rendition: usize) -> Result<String, StepError> {
        let init = self.blob_of(graph, self.nodes.audio_init[rendition])?;
        self.playlist(&init, &self.audio_segments(graph, rendition)?)
    }

    fn playlist(&self, init: &BlobRef, segments: &Segments) -> Result<String, StepError> {
        let listed = segments.blobs.iter().zip(&segments.durations).enumerate();
        let listed: Vec<PlaylistSegment> = listed
            .map(|(n, (blob, &duration))| {
                Ok(PlaylistSegment { path: path(segment_name(n + 1, blob))?, duration })
            })
            .collect::<Result<_, StepError>>()?;
        Ok(package::media_playlist(&MediaPlaylist {
            timescale: segments.timescale,
            target_duration: self.target_duration()?,
            init: &path(init_name(init))?,
            segments: &listed,
        }))
    }

    pub fn multivariant(&self, graph: &Graph) -> Result<String, StepError> {
        let target = self.target_duration()?;
        let mut variants = Vec::new();
        for (number, rung) in self.rungs.iter().enumerate() {
            let segments = self.video_segments(graph, number)?;
            let header = rung.contract.header();
            variants.push(Variant {
                playlist: path(format!("{}/{PLAYLIST}", rung.name))?,
                codecs: header.codecs(),
                bandwidth: Bandwidth::measure(&segments.sizes(), segments.timescale, target),
                width: header.max_frame_width,
                height: header.max_frame_height,
                frame_rate: self.film()?.frame_rate,
                video_range: VideoRange::of_transfer(header.transfer_characteristics),
            });
        }
        let mut audio = Vec::new();
        for (number, rendition) in self.renditions.iter().enumerate() {
            let segments = self.audio_segments(graph, number)?;
            audio.push(package::AudioRendition {
                playlist: path(format!("{}/{PLAYLIST}", rendition.name))?,
                name: rendition.name.clone(),
                language: rendition.language.clone(),
                channels: self.sounds[rendition.sound].channels,
                codecs: "opus".to_owned(),
                bandwidth: Bandwidth::measure(&segments.sizes(), segments.timescale, target),
            });
        }
        let playlist = MultivariantPlaylist { variants: &variants, audio: &audio };
        package::multivariant_playlist(&playlist)
            .map_err(|error: HlsError| StepError::Spec(error.to_string()))
    }

    /// Every file of the output folder.
    pub fn files(&self, graph: &Graph) -> Result<Vec<PublishFile>, StepError> {
        let mut files = Vec::new();
        let mut add = |name: String, blob: BlobRef, role: Role| {
            files.push(PublishFile { path: path(name)?, size: blob.size, digest: blob.digest.into(), role });
            Ok::<(), StepError>(())
        };
        let video = (0..self.rungs.len()).map(|n| {
            let nodes = &self.nodes;
            (&self.rungs[n].name, nodes.video_init[n], &nodes.segment[n], nodes.video_playlist[n])
        });
        let audio = (0..self.renditions.len()).map(|n| {
            let nodes = &self.nodes;
            (&self.renditions[n].name, nodes.audio_init[n], &nodes.audio_segment[n], nodes.audio_playlist[n])
        });
        for (folder, init, segments, playlist) in video.chain(audio) {
            let init = self.blob_of(graph, init)?;
            add(format!("{folder}/{}", init_name(&init)), init, Role::Media)?;
            for (number, &segment) in segments.iter().enumerate() {
                let segment = self.blob_of(graph, segment)?;
                add(format!("{folder}/{}", segment_name(number + 1, &segment)), segment, Role::Media)?;
            }
            add(format!("{folder}/{PLAYLIST}"), self.blob_of(graph, playlist)?, Role::Playlist)?;
        }
        if let Some(entry) = self.nodes.multivariant {
            add(ENTRY.to_owned(), self.blob_of(graph, entry)?, Role::Entry)?;
        }
        Ok(files)
    }

    /// What was published, for the closing summary. `encoded` tells whether a node ran.
    pub fn summary(
        &self,
        graph: &Graph,
        encoded: &dyn Fn(NodeIndex) -> bool,
    ) -> Result<TitleSummary, StepError> {
        let film = self.film()?;
        let target = self.target_duration()?;
        let track = |name: &str, size, codecs: String, segments: &Segments, encoded: u64| {
            let bandwidth = Bandwidth::measure(&segments.sizes(), segments.timescale, target);
            TrackSummary {
                name: name.to_owned(),
                size,
                codecs,
                segments: segments.blobs.len() as u64,
                encoded,
                bytes: segments.blobs.iter().map(|blob| blob.size).sum(),
                average: bandwidth.average,
                peak: bandwidth.peak,
            }
        };
        let mut rungs = Vec::new();
        for (number, rung) in self.rungs.iter().enumerate() {
            let ran = self.nodes.encode[number].iter().filter(|&&node| encoded(node)).count() as u64;
            let picture = &rung.settings.picture;
            let size = Some((picture.width, picture.height));
            rungs.push(track(
                &rung.name,
                size,
                rung.contract.header().codecs(),
                &self.video_segments(graph, number)?,
                ran,
            ));
        }
        let mut audio = Vec::new();
        for (number, rendition) in self.renditions.iter().enumerate() {
            let segments = self.audio_segments(graph, number)?;
            let ran = if encoded(self.nodes.audio[number]) { segments.blobs.len() as u64 } else { 0 };
            audio.push(track(&rendition.name, None, "opus".to_owned(), &segments, ran));
        }
        let entry = self.output.join(ENTRY).display().to_string();
        Ok(TitleSummary {
            name: self.name.clone(),
            entry,
            seconds: film.seconds(film.duration()),
            rungs,
            audio,
        })
    }
}
