//! What a step's key is made of. A [`Recipe`] lists every field by name, once; the key is the
//! BLAKE3 of that list in a canonical encoding, and an explanation is the same list in words.
//!
//! Encoding: the kind and its version, then for each field its name, a type tag and its value,
//! every string of bytes preceded by its length as a 64-bit little-endian number.

use std::fmt;

use crate::cache::{ActionKey, Digest};
use crate::executors::{Contract, EncodeSettings, EncoderSettings};
use crate::media::av1::SequenceHeader;
use crate::media::{Colour, HdrMetadata, PictureFormat, Rational, Rotation, VideoTrack};

use super::chunking::{ChunkMode, ChunkPolicy};

/// Bump a step's version when the bytes that it makes of the same fields change.
mod version {
    pub const INDEX: u32 = 2;
    pub const DECODE: u32 = 2;
    pub const SOUND: u32 = 3;
    pub const SPAN_REEL: u32 = 1;
    pub const CHUNK: u32 = 3;
    pub const ENCODE: u32 = 2;
    pub const AUDIO: u32 = 3;
    pub const REEL: u32 = 2;
    pub const CONTRACT: u32 = 2;
    pub const MUX: u32 = 3;
    pub const MANIFEST: u32 = 2;
    pub const TITLE: u32 = 4;

    /// All of them: a title's whole result depends on every step.
    pub const ALL: [u32; 11] =
        [INDEX, DECODE, SPAN_REEL, SOUND, CHUNK, ENCODE, AUDIO, REEL, CONTRACT, MUX, MANIFEST];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Digest(Digest),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Digest(digest) => f.write_str(&digest.short()),
        }
    }
}

/// Everything that can change a step's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    kind: &'static str,
    version: u32,
    fields: Vec<(&'static str, Value)>,
}

impl Recipe {
    fn new(kind: &'static str, version: u32) -> Recipe {
        Recipe { kind, version, fields: Vec::new() }
    }

    fn text(mut self, name: &'static str, text: impl Into<String>) -> Recipe {
        self.fields.push((name, Value::Text(text.into())));
        self
    }

    fn number(mut self, name: &'static str, number: impl Into<i64>) -> Recipe {
        self.fields.push((name, Value::Number(number.into())));
        self
    }

    fn digest(mut self, name: &'static str, digest: Digest) -> Recipe {
        self.fields.push((name, Value::Digest(digest)));
        self
    }

    fn digests(mut self, name: &'static str, digests: impl IntoIterator<Item = Digest>) -> Recipe {
        self.fields.extend(digests.into_iter().map(|digest| (name, Value::Digest(digest))));
        self
    }

    fn numbers(mut self, name: &'static str, numbers: impl IntoIterator<Item = u32>) -> Recipe {
        self.fields.extend(numbers.into_iter().map(|number| (name, Value::Number(number.into()))));
        self
    }

    /// A list that is long: it stands in the key by its digest and its length.
    fn list(self, name: &'static str, digests: impl IntoIterator<Item = Digest>) -> Recipe {
        let mut hasher = blake3::Hasher::new();
        let mut count = 0i64;
        for digest in digests {
            hasher.update(&digest.0);
            count += 1;
        }
        self.digest(name, hasher.finalize().into()).number("how many", count)
    }

    fn rational(self, name: &'static str, rational: Rational) -> Recipe {
        self.text(name, format!("{}/{}", rational.num, rational.den))
    }

    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn fields(&self) -> &[(&'static str, Value)] {
        &self.fields
    }

    /// The name that the step's result is filed under.
    pub fn key(&self) -> ActionKey {
        let mut hasher = blake3::Hasher::new_derive_key("rivet action key v1");
        let mut bytes = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        bytes(self.kind.as_bytes());
        bytes(&self.version.to_le_bytes());
        for (name, value) in &self.fields {
            bytes(name.as_bytes());
            match value {
                Value::Text(text) => {
                    bytes(b"text");
                    bytes(text.as_bytes());
                }
                Value::Number(number) => {
                    bytes(b"number");
                    bytes(&number.to_le_bytes());
                }
                Value::Digest(digest) => {
                    bytes(b"digest");
                    bytes(&digest.0);
                }
            }
        }
        ActionKey(hasher.finalize().into())
    }

    /// The tracks of a file.
    pub fn index(source: Digest, demuxer: &str) -> Recipe {
        Recipe::new("index", version::INDEX).digest("source", source).text("demuxer", demuxer)
    }

    /// The frames of a span; its packets carry no time stamp, so neither does the key.
    pub fn decode(track: &VideoTrack, span: Digest, decoder: &str) -> Recipe {
        Recipe::new("decode", version::DECODE)
            .digest("codec parameters", Digest(track.parameters))
            .digest("packets", span)
            .text("decoder", decoder)
    }

    /// Spans that follow one another, decoded.
    pub fn span_reel(track: &VideoTrack, spans: impl IntoIterator<Item = Digest>, decoder: &str) -> Recipe {
        Recipe::new("decode reel", version::SPAN_REEL)
            .number("decode version", version::DECODE)
            .digest("codec parameters", Digest(track.parameters))
            .list("packets", spans)
            .text("decoder", decoder)
    }

    /// The windows of an audio track's PCM, mixed to `channels`, against the start of the picture.
    pub fn sound(
        packets: Digest,
        origin: (i64, Rational),
        channels: u8,
        policy: &ChunkPolicy,
        decoder: &str,
        resampler: &str,
    ) -> Recipe {
        Recipe::new("decode", version::SOUND)
            .digest("audio packets", packets)
            .number("picture starts at", origin.0)
            .rational("in units of", origin.1)
            .number("channels", channels)
            .policy(policy)
            .text("decoder", decoder)
            .text("resampler", resampler)
    }

    /// Where the film is cut. `timing` stands for time stamps and claimed frame rates.
    pub fn chunk(decoded: impl IntoIterator<Item = Digest>, timing: Digest, policy: &ChunkPolicy) -> Recipe {
        Recipe::new("chunk", version::CHUNK)
            .list("decoded reels", decoded)
            .digest("timing", timing)
            .policy(policy)
    }

    fn policy(self, policy: &ChunkPolicy) -> Recipe {
        let mode = match policy.mode {
            ChunkMode::Content => "content",
            ChunkMode::Fixed => "fixed",
        };
        let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let recipe = self.text("segments.mode", mode).number("segments.target (ms)", ms(policy.target));
        match policy.mode {
            ChunkMode::Content => {
                recipe.number("segments.min (ms)", ms(policy.min)).number("segments.max (ms)", ms(policy.max))
            }
            ChunkMode::Fixed => recipe,
        }
    }

    /// A chunk for a rung. `chunk` is the digest of its frames' digests.
    pub fn encode(
        chunk: Digest,
        settings: &EncodeSettings,
        contract: &Contract,
        encoder: &str,
        scaler: &str,
    ) -> Recipe {
        let recipe = Recipe::new("encode", version::ENCODE)
            .digest("frames", chunk)
            .picture(&settings.picture)
            .number("crf", settings.crf)
            .text("encoder", encoder)
            .text("scaler", scaler)
            .contract(contract)
            .hdr(&settings.hdr);
        match &settings.encoder {
            EncoderSettings::Rav1e { speed, tiles } => recipe.number("speed", *speed).number("tiles", *tiles),
            EncoderSettings::SvtAv1 { preset } => recipe.number("preset", *preset),
            EncoderSettings::Nvenc { preset } => recipe.number("nvenc.preset", *preset),
            // Sorted by their names, each with its value in one field: both are anybody's words, but
            // no name holds the sign between them.
            EncoderSettings::Ffmpeg { encoder, options } => options
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .fold(recipe.text("ffmpeg encoder", encoder), |recipe, option| recipe.text("option", option)),
        }
    }

    /// Nothing where there is none.
    fn hdr(self, hdr: &HdrMetadata) -> Recipe {
        let mut recipe = self;
        if let Some(display) = &hdr.mastering {
            for value in display.primaries.iter().chain([&display.white_point]).flatten() {
                recipe = recipe.number("mastering display", *value);
            }
            recipe = recipe.number("max luminance", display.max_luminance);
            recipe = recipe.number("min luminance", display.min_luminance);
        }
        if let Some(light) = &hdr.content_light {
            recipe = recipe.number("max cll", light.max_cll).number("max fall", light.max_fall);
        }
        recipe
    }

    fn picture(self, picture: &PictureFormat) -> Recipe {
        let PictureFormat { width, height, bit_depth, rotation, colour } = picture;
        let rotation = match rotation {
            Rotation::None => 0,
            Rotation::Clockwise90 => 90,
            Rotation::Half => 180,
            Rotation::Clockwise270 => 270,
        };
        let Colour { primaries, transfer, matrix, full_range, chroma_position } = colour;
        self.number("width", *width)
            .number("height", *height)
            .number("bit depth", *bit_depth)
            .number("rotation", rotation)
            .number("colour primaries", *primaries)
            .number("transfer characteristics", *transfer)
            .number("matrix coefficients", *matrix)
            .number("full range", i64::from(*full_range))
            .number("chroma sample position", *chroma_position)
    }

    fn contract(self, contract: &Contract) -> Recipe {
        let header = contract.header();
        self.number("profile", header.seq_profile)
            .number("level", header.seq_level_idx)
            .number("tier", i64::from(header.seq_tier))
    }

    /// Opus packets of a window of a rendition. `window` stands for its PCM and the lead before it.
    pub fn audio(window: Digest, channels: u8, bitrate: u32, encoder: &str) -> Recipe {
        Recipe::new("audio", version::AUDIO)
            .digest("pcm", window)
            .number("channels", channels)
            .number("bitrate", bitrate)
            .text("encoder", encoder)
    }

    /// The segments of a reel. `encode` are the keys of a track's encodes but for what they encode,
    /// `pieces` stands for what each is, when it starts and how long its frames last.
    pub fn reel(
        encode: impl IntoIterator<Item = ActionKey>,
        medium: &str,
        number: u32,
        pieces: Digest,
        count: u32,
    ) -> Recipe {
        let reel = Recipe::new("reel", version::REEL);
        encode
            .into_iter()
            .fold(reel, |reel, choice| reel.digest("encode settings", choice.0))
            .number("mux version", version::MUX)
            .text("medium", medium)
            .number("first sequence number", number)
            .digest("pieces", pieces)
            .number("how many", count)
    }

    /// That all of a rung's encodes agree. The set of distinct headers stands for all of them.
    pub fn contract_of_rung(contract: &Contract, headers: impl IntoIterator<Item = Digest>) -> Recipe {
        Recipe::new("contract", version::CONTRACT)
            .header(contract.header())
            .digests("sequence header", headers)
    }

    fn header(self, header: &SequenceHeader) -> Recipe {
        let SequenceHeader {
            seq_profile,
            still_picture,
            seq_level_idx,
            seq_tier,
            initial_display_delay,
            bit_depth,
            mono_chrome,
            subsampling_x,
            subsampling_y,
            color_primaries,
            transfer_characteristics,
            matrix_coefficients,
            color_range,
            chroma_sample_position,
            max_frame_width,
            max_frame_height,
        } = header;
        self.number("profile", *seq_profile)
            .number("still picture", i64::from(*still_picture))
            .number("level", *seq_level_idx)
            .number("tier", i64::from(*seq_tier))
            .number("initial display delay", initial_display_delay.map_or(-1, i64::from))
            .number("bit depth", *bit_depth)
            .number("monochrome", i64::from(*mono_chrome))
            .number("subsampling x", i64::from(*subsampling_x))
            .number("subsampling y", i64::from(*subsampling_y))
            .number("colour primaries", *color_primaries)
            .number("transfer characteristics", *transfer_characteristics)
            .number("matrix coefficients", *matrix_coefficients)
            .number("full range", i64::from(*color_range))
            .number("chroma sample position", *chroma_sample_position)
            .number("width", *max_frame_width)
            .number("height", *max_frame_height)
    }

    /// The initialisation segment of a rung.
    pub fn mux_video_init(header: Digest, timescale: u32) -> Recipe {
        Recipe::new("mux", version::MUX)
            .text("segment", "video initialisation")
            .digest("sequence header", header)
            .number("timescale", timescale)
    }

    /// A media segment. `durations` stands for the samples' durations.
    pub fn mux(medium: &str, encode: Digest, number: u32, start: i64, durations: Digest) -> Recipe {
        Recipe::new("mux", version::MUX)
            .text("segment", medium)
            .digest("encode", encode)
            .number("sequence number", number)
            .number("start", start)
            .digest("durations", durations)
    }

    /// The initialisation segment of an audio rendition.
    pub fn mux_audio_init(offset: i64, channels: u8, pre_skip: u32, rate: u32, language: &str) -> Recipe {
        Recipe::new("mux", version::MUX)
            .text("segment", "audio initialisation")
            .number("offset", offset)
            .number("channels", channels)
            .number("pre-skip", pre_skip)
            .number("input sample rate", rate)
            .text("language", language)
    }

    /// A track's playlist: `segments` stands for what it lists and how long each is.
    pub fn media_playlist(
        medium: &str,
        init: Digest,
        target: u64,
        timescale: u32,
        segments: Digest,
    ) -> Recipe {
        Recipe::new("manifest", version::MANIFEST)
            .text("playlist", medium)
            .digest("initialisation segment", init)
            .number("target duration (s)", i64::try_from(target).unwrap_or(i64::MAX))
            .number("timescale", timescale)
            .digest("segments", segments)
    }

    /// The multivariant playlist: `content` stands for everything that it lists.
    pub fn multivariant_playlist(content: Digest) -> Recipe {
        Recipe::new("manifest", version::MANIFEST).text("playlist", "multivariant").digest("lists", content)
    }

    /// A title's whole result: the digest of the ladder without its paths, and of the source.
    pub fn title(ladder: Digest, source: Digest, tools: &str) -> Recipe {
        Recipe::new("title", version::TITLE)
            .digest("ladder", ladder)
            .digest("source", source)
            .text("tools", tools)
            .numbers("recipe version", version::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{ContentLight, MasteringDisplay};
    use std::collections::HashSet;

    fn settings() -> EncodeSettings {
        EncodeSettings {
            hdr: HdrMetadata::default(),
            picture: PictureFormat {
                width: 640,
                height: 360,
                bit_depth: 8,
                rotation: Rotation::None,
                colour: Colour {
                    primaries: 1,
                    transfer: 1,
                    matrix: 1,
                    full_range: false,
                    chroma_position: 0,
                },
            },
            crf: 32,
            encoder: EncoderSettings::Rav1e { speed: 10, tiles: 1 },
        }
    }

    fn ffmpegs(encoder: &str, options: &[(&str, &str)]) -> EncoderSettings {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        EncoderSettings::Ffmpeg { encoder: encoder.to_owned(), options: options.collect() }
    }

    fn key(chunk: &[u8], settings: &EncodeSettings, rate: u64, encoder: &str, scaler: &str) -> ActionKey {
        let contract = Contract::new(&settings.picture, Rational { num: rate, den: 1 }).unwrap();
        Recipe::encode(Digest::of(chunk), settings, &contract, encoder, scaler).key()
    }

    /// Every input of an encode makes another key; a frame rate of the same level does not.
    #[test]
    fn every_input_of_an_encode_is_in_its_key() {
        let base = settings();
        let mut variants: Vec<EncodeSettings> = Vec::new();
        let mut vary = |change: &dyn Fn(&mut EncodeSettings)| {
            let mut other = base.clone();
            change(&mut other);
            variants.push(other);
        };
        vary(&|s| s.crf = 33);
        vary(&|s| s.encoder = EncoderSettings::Rav1e { speed: 9, tiles: 1 });
        vary(&|s| s.encoder = EncoderSettings::Rav1e { speed: 10, tiles: 2 });
        vary(&|s| s.encoder = EncoderSettings::SvtAv1 { preset: 10 });
        vary(&|s| s.encoder = EncoderSettings::SvtAv1 { preset: 9 });
        vary(&|s| s.encoder = EncoderSettings::Nvenc { preset: 10 });
        vary(&|s| s.encoder = EncoderSettings::Nvenc { preset: 9 });
        vary(&|s| s.encoder = ffmpegs("libaom-av1", &[]));
        vary(&|s| s.encoder = ffmpegs("av1_qsv", &[]));
        vary(&|s| s.encoder = ffmpegs("libaom-av1", &[("cpu-used", "8")]));
        vary(&|s| s.encoder = ffmpegs("libaom-av1", &[("cpu-used", "7")]));
        vary(&|s| s.encoder = ffmpegs("libaom-av1", &[("cpu", "8")]));
        vary(&|s| s.encoder = ffmpegs("libaom-av1", &[("cpu-used", "8"), ("tune", "ssim")]));
        let display = MasteringDisplay {
            primaries: [[1, 2], [3, 4], [5, 6]],
            white_point: [7, 8],
            max_luminance: 9,
            min_luminance: 10,
        };
        vary(&|s| s.hdr.mastering = Some(display));
        vary(&|s| {
            s.hdr.mastering = Some(MasteringDisplay { primaries: [[1, 2], [3, 4], [5, 7]], ..display })
        });
        vary(&|s| s.hdr.mastering = Some(MasteringDisplay { white_point: [7, 9], ..display }));
        vary(&|s| s.hdr.mastering = Some(MasteringDisplay { max_luminance: 10, ..display }));
        vary(&|s| s.hdr.mastering = Some(MasteringDisplay { min_luminance: 9, ..display }));
        vary(&|s| s.hdr.content_light = Some(ContentLight { max_cll: 1, max_fall: 2 }));
        vary(&|s| s.hdr.content_light = Some(ContentLight { max_cll: 2, max_fall: 2 }));
        vary(&|s| s.hdr.content_light = Some(ContentLight { max_cll: 1, max_fall: 3 }));
        vary(&|s| s.picture.width = 642);
        vary(&|s| s.picture.height = 362);
        vary(&|s| s.picture.bit_depth = 10);
        vary(&|s| s.picture.rotation = Rotation::Half);
        vary(&|s| s.picture.colour.primaries = 9);
        vary(&|s| s.picture.colour.transfer = 16);
        vary(&|s| s.picture.colour.matrix = 9);
        vary(&|s| s.picture.colour.full_range = true);
        vary(&|s| s.picture.colour.chroma_position = 1);
        let mut keys: HashSet<ActionKey> = variants.iter().map(|s| key(b"a", s, 25, "e", "s")).collect();
        keys.insert(key(b"a", &base, 25, "e", "s"));
        keys.insert(key(b"b", &base, 25, "e", "s"));
        keys.insert(key(b"a", &base, 25, "other", "s"));
        keys.insert(key(b"a", &base, 25, "e", "other"));
        keys.insert(key(b"a", &base, 120, "e", "s"));
        assert_eq!(keys.len(), variants.len() + 5);
        assert_eq!(key(b"a", &base, 25, "e", "s"), key(b"a", &base, 24, "e", "s"));
    }

    /// All that is agreed is in the key, as numbers: how a toolchain shows a structure is in none.
    #[test]
    fn every_field_of_a_contract_is_in_its_key() {
        let recipe = |change: &dyn Fn(&mut PictureFormat), rate: u64| {
            let mut picture = settings().picture;
            change(&mut picture);
            let contract = Contract::new(&picture, Rational { num: rate, den: 1 }).unwrap();
            Recipe::contract_of_rung(&contract, [Digest([1; 32])])
        };
        let changes: [&dyn Fn(&mut PictureFormat); 8] = [
            &|_| {},
            &|picture| picture.width = 642,
            &|picture| picture.height = 362,
            &|picture| picture.bit_depth = 10,
            &|picture| picture.colour.primaries = 9,
            &|picture| picture.colour.transfer = 16,
            &|picture| picture.colour.matrix = 9,
            &|picture| picture.colour.chroma_position = 1,
        ];
        let mut keys: HashSet<ActionKey> = changes.iter().map(|change| recipe(change, 25).key()).collect();
        keys.insert(recipe(&|picture| picture.colour.full_range = true, 25).key());
        keys.insert(recipe(&|_| {}, 120).key());
        assert_eq!(keys.len(), changes.len() + 2);
        let plain = recipe(&|_| {}, 25);
        assert!(plain.fields().iter().all(|(_, value)| !matches!(value, Value::Text(_))), "{plain:?}");
    }

    /// The canonical encoding is a promise to every cache that is already filled.
    #[test]
    fn golden_key() {
        let recipe = Recipe::new("kind", 3).text("a", "bc").number("d", -1).digest("e", Digest([7; 32]));
        assert_eq!(
            recipe.key().to_string(),
            "33dbcb0b35612f432a05adc60094ae9907fd5150147eb7255a176e952107d73c"
        );
        let moved = Recipe::new("kind", 3).text("ab", "c").number("d", -1).digest("e", Digest([7; 32]));
        assert_ne!(recipe.key(), moved.key(), "a name and a value cannot run together");
    }
}
