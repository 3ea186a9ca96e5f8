//! What a build knows of one title, and how its part of the graph grows: the tracks are known
//! once the source is indexed, the encodes once the film is cut, the rest once the sound has
//! been encoded.

use std::path::PathBuf;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::cache::Digest;
use crate::media::{AudioTrack, Index, OPUS_FRAME, OPUS_RATE};
use crate::package::Language;
use crate::spec::{self, Ladder};

use super::chunking::{ChunkMode, ChunkPolicy};
use super::error::StepError;
use super::film::Film;
use super::frames::FrameSource;
use super::rung::RungPlan;
use super::step::{Node, Step};
use super::work::{AudioFacts, AudioSlice, Readers, SoundFacts, SoundSource};

pub type Graph = DiGraph<Node, ()>;

pub struct Title {
    pub number: usize,
    pub name: String,
    pub source: PathBuf,
    pub output: PathBuf,
    pub policy: ChunkPolicy,
    pub spec_rungs: Vec<spec::Rung>,
    pub spec_audio: Vec<spec::AudioRendition>,
    pub digest: Option<Digest>,
    pub index: Option<Arc<Index>>,
    pub readers: Option<Arc<Readers>>,
    pub film: Option<Arc<Film>>,
    pub frames: Option<Arc<FrameSource>>,
    pub rungs: Vec<Arc<RungPlan>>,
    pub renditions: Vec<Rendition>,
    /// The distinct ways in which the renditions want their sound.
    pub sounds: Vec<SoundSource>,
    pub nodes: Nodes,
}

/// The title's nodes, by what they are for.
#[derive(Default)]
pub struct Nodes {
    pub decode: Vec<NodeIndex>,
    pub sound: Vec<NodeIndex>,
    /// By rung, then chunk.
    pub encode: Vec<Vec<NodeIndex>>,
    pub segment: Vec<Vec<NodeIndex>>,
    pub contract: Vec<NodeIndex>,
    pub video_init: Vec<NodeIndex>,
    pub video_playlist: Vec<NodeIndex>,
    pub audio: Vec<NodeIndex>,
    pub audio_init: Vec<NodeIndex>,
    /// By rendition, then segment.
    pub audio_segment: Vec<Vec<NodeIndex>>,
    pub audio_playlist: Vec<NodeIndex>,
    pub multivariant: Option<NodeIndex>,
}

/// An audio rendition of the spec, fitted to a source.
#[derive(Clone)]
pub struct Rendition {
    pub name: String,
    pub sound: usize,
    pub bitrate: u32,
    pub language: Option<Language>,
    /// Known once it has been encoded.
    pub encoded: Option<(SoundFacts, AudioFacts)>,
    /// Its segments, known then, too.
    pub slices: Vec<AudioSlice>,
}

impl Title {
    pub fn new(ladder: &Ladder, number: usize, title: &spec::Title) -> Title {
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
            number,
            name: title.name.clone(),
            source: title.source.clone(),
            output: title.output.clone(),
            policy,
            spec_rungs: ladder.rungs.clone(),
            spec_audio: ladder.audio.clone(),
            digest: None,
            index: None,
            readers: None,
            film: None,
            frames: None,
            rungs: Vec::new(),
            renditions: Vec::new(),
            sounds: Vec::new(),
            nodes: Nodes::default(),
        }
    }

    /// A step's name for people, e.g. `720p/12`; segments are counted from 1.
    pub fn label(&self, step: Step) -> String {
        let rung = |n: usize| self.spec_rungs.get(n).map_or("?", |rung| rung.name.as_str());
        let rendition = |n: usize| self.renditions.get(n).map_or("?", |rendition| rendition.name.as_str());
        match step {
            Step::Source => "source".to_owned(),
            Step::Index => "index".to_owned(),
            Step::DecodeSpan { span } => format!("decode/{}", span + 1),
            Step::DecodeSound { sound } => format!("decode/sound/{}", sound + 1),
            Step::Chunk => "chunk".to_owned(),
            Step::Encode { rung: r, chunk } => format!("{}/{}", rung(r), chunk + 1),
            Step::Audio { rendition: r } => format!("audio/{}", rendition(r)),
            Step::Contract { rung: r } => format!("{}/contract", rung(r)),
            Step::VideoInit { rung: r } => format!("{}/init", rung(r)),
            Step::VideoSegment { rung: r, chunk } => format!("{}/{}/mux", rung(r), chunk + 1),
            Step::AudioInit { rendition: r } => format!("audio/{}/init", rendition(r)),
            Step::AudioSegment { rendition: r, segment } => {
                format!("audio/{}/{}/mux", rendition(r), segment + 1)
            }
            Step::VideoPlaylist { rung: r } => format!("{}/playlist", rung(r)),
            Step::AudioPlaylist { rendition: r } => format!("audio/{}/playlist", rendition(r)),
            Step::Multivariant => "manifest".to_owned(),
            Step::Publish => "publish".to_owned(),
        }
    }

    /// Once the tracks are known: a decode step a span, and the chunk step.
    pub fn grow_spans(&mut self, graph: &mut Graph, index: Arc<Index>) {
        let track = Arc::new(index.video.clone());
        self.readers = Some(Arc::new(Readers::new(&self.source, track)));
        for span in 0..index.video.spans.len() {
            self.nodes.decode.push(add(graph, self.number, Step::DecodeSpan { span }, &[]));
        }
        add(graph, self.number, Step::Chunk, &self.nodes.decode);
        self.index = Some(index);
    }

    /// Takes back the spans, and returns the nodes that nobody needs any more.
    pub fn ungrow_spans(&mut self, graph: &Graph) -> Vec<NodeIndex> {
        let decode = std::mem::take(&mut self.nodes.decode);
        let chunk = decode.first().into_iter().flat_map(|&node| graph.neighbors(node));
        chunk.chain(decode.iter().copied()).collect()
    }

    /// Once the film is cut: encodes, contracts, video segments, and the sound. Returns warnings.
    pub fn grow_encodes(
        &mut self,
        graph: &mut Graph,
        film: Arc<Film>,
        threads: usize,
    ) -> Result<Vec<String>, StepError> {
        let index = self.index.clone().ok_or_else(|| StepError::internal("a film without an index"))?;
        for rung in &self.spec_rungs {
            self.rungs.push(Arc::new(RungPlan::new(rung, &index.video, film.frame_rate)?));
        }
        let warnings = self.choose_sound(&index, &film)?;
        for rung in 0..self.rungs.len() {
            let encodes: Vec<NodeIndex> = (0..film.chunks.len())
                .map(|chunk| add(graph, self.number, Step::Encode { rung, chunk }, &[]))
                .collect();
            let segments = encodes.iter().enumerate();
            let segments = segments.map(|(chunk, &encode)| {
                add(graph, self.number, Step::VideoSegment { rung, chunk }, &[encode])
            });
            let segments = segments.collect();
            let contract = add(graph, self.number, Step::Contract { rung }, &encodes);
            self.nodes.video_init.push(add(graph, self.number, Step::VideoInit { rung }, &[contract]));
            self.nodes.contract.push(contract);
            self.nodes.segment.push(segments);
            self.nodes.encode.push(encodes);
        }
        for sound in 0..self.sounds.len() {
            self.nodes.sound.push(add(graph, self.number, Step::DecodeSound { sound }, &[]));
        }
        for (rendition, plan) in self.renditions.iter().enumerate() {
            let sound = self.nodes.sound[plan.sound];
            self.nodes.audio.push(add(graph, self.number, Step::Audio { rendition }, &[sound]));
        }
        let track = Arc::new(index.video.clone());
        self.frames = Some(Arc::new(FrameSource::new(&self.source, track, Arc::clone(&film), threads)));
        self.film = Some(film);
        Ok(warnings)
    }

    /// Once all sound is encoded: audio segments, playlists, and publishing.
    pub fn grow_package(&mut self, graph: &mut Graph) {
        for rendition in 0..self.renditions.len() {
            if let Some((sound, audio)) = &self.renditions[rendition].encoded {
                self.renditions[rendition].slices = self.audio_slices(sound, audio);
            }
        }
        for rendition in 0..self.renditions.len() {
            let audio = self.nodes.audio[rendition];
            let segments: Vec<NodeIndex> = (0..self.renditions[rendition].slices.len())
                .map(|segment| add(graph, self.number, Step::AudioSegment { rendition, segment }, &[audio]))
                .collect();
            let init = add(graph, self.number, Step::AudioInit { rendition }, &[audio]);
            let inputs: Vec<NodeIndex> = segments.iter().copied().chain([init]).collect();
            self.nodes.audio_playlist.push(add(
                graph,
                self.number,
                Step::AudioPlaylist { rendition },
                &inputs,
            ));
            self.nodes.audio_init.push(init);
            self.nodes.audio_segment.push(segments);
        }
        for rung in 0..self.rungs.len() {
            let segments = self.nodes.segment[rung].iter().copied();
            let inputs: Vec<NodeIndex> = segments.chain([self.nodes.video_init[rung]]).collect();
            self.nodes.video_playlist.push(add(graph, self.number, Step::VideoPlaylist { rung }, &inputs));
        }
        let playlists: Vec<NodeIndex> =
            self.nodes.video_playlist.iter().chain(&self.nodes.audio_playlist).copied().collect();
        // The multivariant playlist tells measured bit rates, and codecs by the contract.
        let listed: Vec<NodeIndex> = self.nodes.contract.iter().chain(&playlists).copied().collect();
        let multivariant = add(graph, self.number, Step::Multivariant, &listed);
        self.nodes.multivariant = Some(multivariant);
        let files: Vec<NodeIndex> = self
            .nodes
            .segment
            .iter()
            .chain(&self.nodes.audio_segment)
            .flatten()
            .chain(&self.nodes.video_init)
            .chain(&self.nodes.audio_init)
            .chain(&playlists)
            .chain([&multivariant])
            .copied()
            .collect();
        add(graph, self.number, Step::Publish, &files);
    }

    /// Fits the spec's renditions to the source's audio tracks.
    fn choose_sound(&mut self, index: &Index, film: &Film) -> Result<Vec<String>, StepError> {
        let mut warnings = Vec::new();
        for wanted in &self.spec_audio {
            let Some(track) = choose_track(&index.audio, wanted)? else {
                warnings.push(format!("the source has no sound, so there is no rendition {}", wanted.name));
                continue;
            };
            let channels = wanted.channels.unwrap_or(if track.channels == 1 { 1 } else { 2 });
            let same = |sound: &SoundSource| sound.track.stream == track.stream && sound.channels == channels;
            let sound = self.sounds.iter().position(same).unwrap_or_else(|| {
                self.sounds.push(SoundSource {
                    path: self.source.clone(),
                    track: track.clone(),
                    channels,
                    origin: (film.origin, index.video.time_base),
                });
                self.sounds.len() - 1
            });
            let language = wanted.language.as_deref().or(Some(track.language.as_str()));
            self.renditions.push(Rendition {
                name: wanted.name.clone(),
                sound,
                bitrate: u32::try_from(wanted.bitrate.0).unwrap_or(u32::MAX),
                language: language.filter(|language| !language.is_empty()).and_then(Language::new),
                encoded: None,
                slices: Vec::new(),
            });
        }
        Ok(warnings)
    }

    /// How a rendition's packets are cut into segments of about the target length. A short rest
    /// joins its neighbour: a segment of a few milliseconds makes players stall.
    fn audio_slices(&self, sound: &SoundFacts, audio: &AudioFacts) -> Vec<AudioSlice> {
        let frame = OPUS_FRAME as u64;
        let each = (self.policy.target * u64::from(OPUS_RATE) / 1000).div_ceil(frame).max(1);
        let count = ((audio.packets + each / 2) / each).max(1);
        // What decoders get to hear: the pre-skip and the sound, of which the last packet holds
        // only a part.
        let heard = audio.samples + u64::from(audio.pre_skip);
        (0..count)
            .map(|number| {
                let end = if number + 1 == count { audio.packets } else { (number + 1) * each };
                let last = if number + 1 == count {
                    heard.saturating_sub((end - 1) * frame).clamp(1, frame)
                } else {
                    frame
                };
                AudioSlice {
                    number: number as u32 + 1,
                    packets: number * each..end,
                    start: number * each * frame + sound.offset.max(0) as u64,
                    last_duration: last as u32,
                }
            })
            .collect()
    }
}

fn add(graph: &mut Graph, title: usize, step: Step, inputs: &[NodeIndex]) -> NodeIndex {
    let missing = inputs.iter().filter(|&&input| graph[input].result().is_none()).count();
    let node = graph.add_node(Node::new(title, step, missing));
    for &input in inputs {
        graph.add_edge(input, node, ());
    }
    node
}

fn choose_track<'a>(
    tracks: &'a [AudioTrack],
    wanted: &spec::AudioRendition,
) -> Result<Option<&'a AudioTrack>, StepError> {
    match wanted.track {
        Some(number) => tracks.get(number as usize).map(Some).ok_or_else(|| {
            StepError::Spec(format!(
                "audio rendition {}: the source has no audio track {number}; it has {}, counted from 0",
                wanted.name,
                tracks.len()
            ))
        }),
        None => Ok(tracks.iter().find(|track| track.default).or(tracks.first())),
    }
}
