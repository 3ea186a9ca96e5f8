//! What a build knows of one title, and how its part of the graph grows: spans are known once the
//! source is indexed, tracks once it is known when frames are shown, pieces as the film is cut and
//! the sound is heard, playlists once all pieces are.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::cache::Digest;
use crate::media::{AudioTrack, Codecs, Index, SoundSource};
use crate::package::FileList;
use crate::spec::{self, Ladder};
use crate::stream::Language;

use super::chunking::{ChunkMode, ChunkPolicy};
use super::cutting::Cutting;
use super::error::StepError;
use super::event::Kind;
use super::film::{DecodedSpan, Piece, Timing};
use super::frames::FrameSource;
use super::rung::{Here, RungPlan, check_size};
use super::step::{Node, Step};
use super::track::{Medium, PieceNodes, REEL, Reel, Rendition, SpanReel, Track};
use super::work::{Readers, SoundFacts};

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
    /// While it is cut as it is decoded.
    pub cutting: Option<Box<Cutting>>,
    /// The reel of spans that was read last, while it is cut.
    pub unwound: Option<(usize, Vec<DecodedSpan>)>,
    /// Whether it can be cut only when all of it has been decoded.
    pub cut_at_end: bool,
    pub timing: Option<Timing>,
    /// The chunks that are known.
    pub chunks: Vec<Piece>,
    /// Whether those are all.
    pub is_cut: bool,
    pub frames: Option<Arc<FrameSource>>,
    pub tracks: Vec<Track>,
    pub sounds: Vec<Sound>,
    /// By span; none where its reel was found.
    pub decode: Vec<Option<NodeIndex>>,
    pub span_reels: Vec<SpanReel>,
    pub multivariant: Option<NodeIndex>,
    /// Of all playlists, in seconds; known when the package is grown.
    pub target_duration: u64,
    /// What is to be published, while that is being looked at.
    pub to_publish: Option<Arc<FileList>>,
}

/// One way in which renditions want their sound.
pub struct Sound {
    pub source: SoundSource,
    pub node: NodeIndex,
    /// Known once it has been decoded.
    pub heard: Option<(SoundFacts, Arc<Vec<Piece>>)>,
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
            cutting: None,
            unwound: None,
            cut_at_end: false,
            timing: None,
            chunks: Vec::new(),
            is_cut: false,
            frames: None,
            tracks: Vec::new(),
            sounds: Vec::new(),
            decode: Vec::new(),
            span_reels: Vec::new(),
            multivariant: None,
            target_duration: 0,
            to_publish: None,
        }
    }

    /// A step's name for people, e.g. `720p/12`; all are counted from 1.
    pub fn label(&self, step: Step) -> String {
        let track = |n: usize| self.tracks.get(n).map_or_else(|| "?".to_owned(), Track::label);
        match step {
            Step::Source => "source".to_owned(),
            Step::Index => "index".to_owned(),
            Step::DecodeSpan { span } => format!("decode/{}", span + 1),
            Step::SpanReel { reel } => format!("decode/reel/{}", reel + 1),
            Step::DecodeSound { sound } => format!("decode/sound/{}", sound + 1),
            Step::Chunk => "chunk".to_owned(),
            Step::Encode { track: t, piece } | Step::Audio { track: t, piece } => {
                format!("{}/{}", track(t), piece + 1)
            }
            Step::Segment { track: t, piece } => format!("{}/{}/mux", track(t), piece + 1),
            Step::Reel { track: t, reel } => format!("{}/reel/{}", track(t), reel + 1),
            Step::Contract { track: t } => format!("{}/contract", track(t)),
            Step::Init { track: t } => format!("{}/init", track(t)),
            Step::Playlist { track: t } => format!("{}/playlist", track(t)),
            Step::Multivariant => "manifest".to_owned(),
            Step::Publish => "publish".to_owned(),
        }
    }

    /// Whether the rungs go with the source's picture, as far as that is known before it is decoded. Returns
    /// what there is to tell of encoders that make nothing of one.
    pub fn check_rungs(&self, index: &Index) -> Result<Vec<String>, StepError> {
        let told = self.spec_rungs.iter().map(|rung| check_size(rung, &index.video));
        Ok(told.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Once the tracks of the source are known, by step `told_by`: the reels of spans, and the
    /// chunk step.
    pub fn grow_spans(&mut self, graph: &mut Graph, index: Arc<Index>, told_by: NodeIndex) {
        let track = Arc::new(index.video.clone());
        self.readers = Some(Arc::new(Readers::new(&self.source, track)));
        let count = index.video.spans.len();
        self.decode = vec![None; count];
        for (reel, first) in (0..count).step_by(REEL).enumerate() {
            let node = add(graph, self.number, Step::SpanReel { reel }, &[told_by]);
            let spans = first..count.min(first + REEL);
            self.span_reels.push(SpanReel { node, spans, expanded: false });
        }
        let reels: Vec<NodeIndex> = self.span_reels.iter().map(|reel| reel.node).collect();
        add(graph, self.number, Step::Chunk, &reels);
        self.index = Some(index);
    }

    /// Takes back the spans, and returns the nodes that nobody needs any more.
    pub fn ungrow_spans(&mut self, graph: &Graph) -> Vec<NodeIndex> {
        self.unwound = None;
        let reels = std::mem::take(&mut self.span_reels);
        let chunk = reels.first().into_iter().flat_map(|reel| graph.neighbors(reel.node));
        let spans = std::mem::take(&mut self.decode).into_iter().flatten();
        chunk.chain(reels.iter().map(|reel| reel.node)).chain(spans).collect()
    }

    /// Steps for all that is on a reel, as its inputs.
    pub fn expand(&mut self, graph: &mut Graph, reel: Step) {
        match reel {
            Step::Reel { track, reel } => self.expand_reel(graph, track, reel),
            Step::SpanReel { reel } => self.expand_span_reel(graph, reel),
            _ => {}
        }
    }

    pub fn is_expanded(&self, reel: Step) -> bool {
        match reel {
            Step::Reel { track, reel } => self.tracks[track].reels[reel].expanded,
            Step::SpanReel { reel } => self.span_reels[reel].expanded,
            _ => false,
        }
    }

    /// What a reel stands for as long as that has no nodes of its own: how many steps of each kind.
    pub fn unseen_on(&self, reel: Step) -> Vec<(Kind, u64)> {
        match reel {
            Step::Reel { track, reel } => {
                let track = &self.tracks[track];
                let pieces = track.reels.get(reel).and_then(|reel| track.pieces.get(reel.pieces.clone()));
                let unseen = pieces.unwrap_or_default().iter().filter(|nodes| nodes.encode.is_none());
                let unseen = unseen.count() as u64;
                let encode = if track.rung().is_some() { Kind::Encode } else { Kind::Audio };
                vec![(encode, unseen), (Kind::Mux, unseen)]
            }
            Step::SpanReel { reel } => {
                let spans = self.span_reels.get(reel).and_then(|reel| self.decode.get(reel.spans.clone()));
                let unseen = spans.unwrap_or_default().iter().filter(|node| node.is_none()).count();
                vec![(Kind::Decode, unseen as u64)]
            }
            _ => Vec::new(),
        }
    }

    fn expand_span_reel(&mut self, graph: &mut Graph, reel: usize) {
        let SpanReel { node, spans, expanded } = &mut self.span_reels[reel];
        *expanded = true;
        // Nothing else comes before it.
        let told_by: Vec<NodeIndex> = graph.neighbors_directed(*node, Direction::Incoming).collect();
        graph[*node].missing = spans.len();
        for span in spans.clone() {
            let decode = add(graph, self.number, Step::DecodeSpan { span }, &told_by);
            graph.add_edge(decode, *node, ());
            self.decode[span] = Some(decode);
        }
    }

    /// Once it is known when frames are shown: the tracks, and a step for each sound. Returns
    /// warnings.
    pub fn grow_tracks(
        &mut self,
        graph: &mut Graph,
        timing: Timing,
        threads: usize,
        codecs: (Arc<dyn Codecs>, Arc<AtomicU64>),
        here: Here<'_>,
    ) -> Result<Vec<String>, StepError> {
        let index = self.index.clone().ok_or_else(|| StepError::internal("a film without an index"))?;
        for rung in &self.spec_rungs {
            let plan = RungPlan::new(rung, &index.video, timing.frame_rate, here)?;
            self.tracks.push(Track::new(&plan.name.clone(), Medium::Video(Arc::new(plan))));
        }
        let mut warnings = Vec::new();
        for wanted in &self.spec_audio {
            let Some(track) = choose_track(&index.audio, wanted)? else {
                warnings.push(format!("the source has no sound, so there is no rendition {}", wanted.name));
                continue;
            };
            let channels = wanted.channels.unwrap_or(if track.channels == 1 { 1 } else { 2 });
            let same = |sound: &Sound| {
                sound.source.track.stream == track.stream && sound.source.channels == channels
            };
            let sound = self.sounds.iter().position(same).unwrap_or_else(|| {
                let source = SoundSource {
                    path: self.source.clone(),
                    track: track.clone(),
                    channels,
                    origin: (timing.origin, index.video.time_base),
                };
                let step = Step::DecodeSound { sound: self.sounds.len() };
                let node = add(graph, self.number, step, &[]);
                self.sounds.push(Sound { source, node, heard: None });
                self.sounds.len() - 1
            });
            let language = wanted.language.as_deref().or(Some(track.language.as_str()));
            let rendition = Rendition {
                sound,
                codec: wanted.codec.into(),
                bitrate: u32::try_from(wanted.bitrate.0).unwrap_or(u32::MAX),
                language: language.filter(|language| !language.is_empty()).and_then(Language::new),
            };
            self.tracks.push(Track::new(&wanted.name, Medium::Audio(Arc::new(rendition))));
        }
        let track = Arc::new(index.video.clone());
        self.frames =
            Some(Arc::new(FrameSource::new(&self.source, track, codecs, &timing.span_frames, threads)));
        self.timing = Some(timing);
        Ok(warnings)
    }

    /// Takes back the tracks and all that follows from them, and returns the nodes that nobody
    /// needs any more.
    pub fn ungrow_tracks(&mut self, graph: &Graph) -> Vec<NodeIndex> {
        let first = Step::DecodeSound { sound: 0 }.stage();
        let ours = |&id: &NodeIndex| graph[id].title == self.number && graph[id].step.stage() >= first;
        let nodes = graph.node_indices().filter(ours).collect();
        self.timing = None;
        self.chunks.clear();
        self.is_cut = false;
        self.frames = None;
        self.tracks.clear();
        self.sounds.clear();
        self.multivariant = None;
        nodes
    }

    /// Takes back what rests on the windows of a sound, and the package. Returns the nodes that nobody needs
    /// any more.
    pub fn ungrow_sound(&mut self, graph: &Graph, sound: usize) -> Vec<NodeIndex> {
        let package = Step::Contract { track: 0 }.stage();
        let is_packaging =
            |&id: &NodeIndex| graph[id].title == self.number && graph[id].step.stage() >= package;
        let mut nodes: Vec<NodeIndex> = graph.node_indices().filter(is_packaging).collect();
        self.multivariant = None;
        self.to_publish = None;
        self.sounds[sound].heard = None;
        for track in &mut self.tracks {
            (track.contract, track.init, track.playlist) = (None, None, None);
            if track.rendition().is_some_and(|rendition| rendition.sound == sound) {
                let pieces = track.pieces.drain(..).flat_map(|piece| [piece.encode, piece.segment]);
                nodes.extend(pieces.flatten().chain(track.reels.drain(..).map(|reel| reel.node)));
            }
        }
        nodes
    }

    /// The pieces of a track that are known.
    pub fn pieces(&self, track: usize) -> &[Piece] {
        match self.tracks.get(track).map(|track| &track.medium) {
            None => &[],
            Some(Medium::Video(_)) => &self.chunks,
            Some(Medium::Audio(rendition)) => self
                .sounds
                .get(rendition.sound)
                .and_then(|sound| sound.heard.as_ref())
                .map_or(&[], |(_, windows)| windows),
        }
    }

    /// Whether all pieces of a track are known.
    pub fn has_all_pieces(&self, track: usize) -> bool {
        match self.tracks.get(track).map(|track| &track.medium) {
            None => false,
            Some(Medium::Video(_)) => self.is_cut,
            Some(Medium::Audio(rendition)) => {
                self.sounds.get(rendition.sound).is_some_and(|sound| sound.heard.is_some())
            }
        }
    }

    /// Steps for a piece of a track, if there are none yet.
    pub fn grow_piece(&mut self, graph: &mut Graph, track: usize, piece: usize) -> PieceNodes {
        let is_video = self.tracks[track].rung().is_some();
        let nodes = &mut self.tracks[track].pieces;
        if nodes.len() <= piece {
            nodes.resize(piece + 1, PieceNodes::default());
        }
        if nodes[piece].encode.is_none() {
            let step = if is_video { Step::Encode { track, piece } } else { Step::Audio { track, piece } };
            let encode = add(graph, self.number, step, &[]);
            let segment = add(graph, self.number, Step::Segment { track, piece }, &[encode]);
            nodes[piece] = PieceNodes { encode: Some(encode), segment: Some(segment) };
        }
        nodes[piece]
    }

    /// Winds the pieces that are known on reels: whole ones, and the rest once all are known.
    pub fn grow_reels(&mut self, graph: &mut Graph, track: usize) {
        let (known, all) = (self.pieces(track).len(), self.has_all_pieces(track));
        let number = self.number;
        let track_of = &mut self.tracks[track];
        track_of.pieces.resize(known.max(track_of.pieces.len()), PieceNodes::default());
        let mut first = track_of.reels.last().map_or(0, |reel| reel.pieces.end);
        while known - first >= REEL || (all && first < known) {
            let pieces = first..known.min(first + REEL);
            first = pieces.end;
            let node = add(graph, number, Step::Reel { track, reel: track_of.reels.len() }, &[]);
            track_of.reels.push(Reel { node, pieces, expanded: false, segments: None });
        }
    }

    fn expand_reel(&mut self, graph: &mut Graph, track: usize, reel: usize) {
        let Reel { node, pieces, .. } = &self.tracks[track].reels[reel];
        let (node, pieces) = (*node, pieces.clone());
        let mut missing = 0;
        for piece in pieces {
            if let Some(segment) = self.grow_piece(graph, track, piece).segment {
                graph.add_edge(segment, node, ());
                missing += usize::from(graph[segment].result().is_none());
            }
        }
        graph[node].missing = missing;
        self.tracks[track].reels[reel].expanded = true;
    }

    /// Whether all is known that is to be packaged, and it has not been grown yet.
    pub fn can_grow_package(&self) -> bool {
        self.multivariant.is_none()
            && self.is_cut
            && (0..self.tracks.len()).all(|track| self.has_all_pieces(track))
    }

    /// Contracts, initialisation segments, playlists, and publishing.
    pub fn grow_package(&mut self, graph: &mut Graph) {
        let number = self.number;
        self.target_duration = self.find_target_duration();
        let mut playlists = Vec::new();
        let mut listed = Vec::new();
        let mut files = Vec::new();
        for (track, made) in self.tracks.iter_mut().enumerate() {
            let reels: Vec<NodeIndex> = made.reels.iter().map(|reel| reel.node).collect();
            let init_inputs = match made.medium {
                Medium::Video(_) => vec![add(graph, number, Step::Contract { track }, &reels)],
                Medium::Audio(_) => Vec::new(),
            };
            made.contract = init_inputs.first().copied();
            let init = add(graph, number, Step::Init { track }, &init_inputs);
            made.init = Some(init);
            let inputs: Vec<NodeIndex> = reels.iter().copied().chain([init]).collect();
            let playlist = add(graph, number, Step::Playlist { track }, &inputs);
            made.playlist = Some(playlist);
            // The multivariant playlist tells measured bit rates, and codecs by the contract.
            listed.extend(init_inputs);
            playlists.push(playlist);
            files.extend(reels);
            files.push(init);
        }
        listed.extend(&playlists);
        let multivariant = add(graph, number, Step::Multivariant, &listed);
        self.multivariant = Some(multivariant);
        files.extend(playlists);
        files.push(multivariant);
        add(graph, number, Step::Publish, &files);
    }

    /// How many steps of each kind the title has, whether they have nodes or not.
    pub fn step_counts(&self) -> Vec<(Kind, u64)> {
        let pieces = |video: bool| {
            let tracks = self.tracks.iter().filter(|track| track.rung().is_some() == video);
            tracks.map(|track| track.pieces.len() as u64).sum::<u64>()
        };
        let tracks = self.tracks.len() as u64;
        let rungs = self.tracks.iter().filter(|track| track.rung().is_some()).count() as u64;
        vec![
            (Kind::Source, 1),
            (Kind::Index, 1),
            (Kind::Decode, (self.decode.len() + self.sounds.len()) as u64),
            (Kind::Chunk, 1),
            (Kind::Encode, pieces(true)),
            (Kind::Audio, pieces(false)),
            (
                Kind::Reel,
                (self.tracks.iter().map(|track| track.reels.len()).sum::<usize>() + self.span_reels.len())
                    as u64,
            ),
            (Kind::Contract, rungs),
            (Kind::Mux, pieces(true) + pieces(false) + tracks),
            (Kind::Manifest, tracks + 1),
            (Kind::Publish, 1),
        ]
    }
}

pub fn add(graph: &mut Graph, title: usize, step: Step, inputs: &[NodeIndex]) -> NodeIndex {
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
