//! Chunks to encode by an executor alone, without a build around it, and what came of them by
//! another decoder's eyes.

use std::fs;
use std::sync::{Arc, OnceLock};

use rivet::testing::executors::{
    Contract, EncodeJob, EncodeSettings, EncodeTask, EncodedChunk, Executor, Failure, FrameSupply,
};
use rivet::testing::media::av1::{self, SequenceHeader, obus};
use rivet::testing::media::{Frame, FrameConverter, FrameFormat, PacketReader, Rational, SpanDecoder, scan};

/// As many as the fake driver's own distance between key frames, twice, and some.
pub const FRAMES: usize = 23;

type Before = Box<dyn Fn(usize) -> Result<(), Failure> + Send + Sync>;

/// Some frames of a film that move, as a chunk.
pub struct Chunk {
    pub frames: Vec<Arc<Frame>>,
    /// What happens before the frame of a number is handed out.
    before: Option<Before>,
}

impl Chunk {
    /// The first frames of the film, at most [`FRAMES`].
    pub fn new(count: usize) -> Chunk {
        static FILM: OnceLock<Vec<Arc<Frame>>> = OnceLock::new();
        let film = FILM.get_or_init(|| {
            let path = super::clip(super::FLOWER);
            let index = scan(&path, &|| false).unwrap();
            let mut reader = PacketReader::open(&path, Arc::new(index.video)).unwrap();
            let mut decoder = SpanDecoder::new(reader.read_span(0).unwrap(), 1).unwrap();
            let frames = std::iter::from_fn(|| decoder.next_frame().unwrap());
            frames.take(FRAMES).map(|decoded| Arc::new(decoded.frame)).collect()
        });
        Chunk { frames: film[..count].to_vec(), before: None }
    }

    /// All of them, with something that happens before each.
    pub fn with(before: impl Fn(usize) -> Result<(), Failure> + Send + Sync + 'static) -> Chunk {
        Chunk { before: Some(Box::new(before)), ..Chunk::new(FRAMES) }
    }
}

impl FrameSupply for Chunk {
    fn count(&self) -> usize {
        self.frames.len()
    }

    fn open(&self) -> Box<dyn Iterator<Item = Result<Arc<Frame>, Failure>> + '_> {
        Box::new(self.frames.iter().enumerate().map(|(number, frame)| {
            self.before.as_ref().map_or(Ok(()), |before| before(number))?;
            Ok(Arc::clone(frame))
        }))
    }
}

/// What is agreed for a rung of such pictures, so many of them a second.
pub fn contract(settings: &EncodeSettings, rate: u64) -> Contract {
    Contract::new(&settings.format, Rational { num: rate, den: 1 }).unwrap()
}

/// What a rung with so many frames a second has made of a chunk.
pub fn task(settings: &EncodeSettings, rate: u64) -> EncodeTask {
    EncodeTask { settings: settings.clone(), contract: contract(settings, rate) }
}

pub fn encode(
    executor: &dyn Executor,
    decoded: &Chunk,
    settings: &EncodeSettings,
) -> Result<EncodedChunk, Failure> {
    let task = task(settings, 25);
    executor.encode(&EncodeJob { task: &task, decoded, threads: 1, cancelled: &|| false })
}

/// The chunk as dav1d, with every check that it has, decodes it: planes of all frames, one after the
/// other.
fn decode(chunk: &EncodedChunk, picture: &FrameFormat) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (ivf, yuv) = (folder.path().join("chunk.ivf"), folder.path().join("chunk.yuv"));
    let mut file = b"DKIF\0\0\x20\0AV01".to_vec();
    file.extend((picture.width as u16).to_le_bytes());
    file.extend((picture.height as u16).to_le_bytes());
    file.extend([25, 0, 0, 0, 1, 0, 0, 0]);
    file.extend([0; 8]);
    for (number, unit) in chunk.units.iter().enumerate() {
        let delimiter = [0x12, 0x00];
        file.extend(((delimiter.len() + unit.len()) as u32).to_le_bytes());
        file.extend((number as u64).to_le_bytes());
        file.extend(delimiter);
        file.extend(unit);
    }
    fs::write(&ivf, file).unwrap();
    let arguments = ["-i", ivf.to_str().unwrap(), "-o", yuv.to_str().unwrap(), "--quiet", "--strict", "1"];
    super::quietly("dav1d", arguments);
    fs::read(yuv).unwrap()
}

/// PSNR in dB of each of the planes Y, U and V over all frames, against what was to be encoded.
fn psnr(decoded: &[u8], source: &Chunk, picture: &FrameFormat) -> [f64; 3] {
    let mut converter = FrameConverter::new(*picture);
    let size = picture.bytes_per_sample();
    let value = |sample: &[u8]| match *sample {
        [low, high] => f64::from(u16::from_le_bytes([low, high])),
        _ => f64::from(sample[0]),
    };
    let (mut errors, mut counts) = ([0.0; 3], [0.0; 3]);
    let mut rest = decoded;
    for frame in &source.frames {
        let frame = converter.convert(Arc::clone(frame)).unwrap();
        for (number, plane) in (0..3).map(|plane| frame.rows(plane).collect::<Vec<_>>().concat()).enumerate()
        {
            let (found, behind) = rest.split_at(plane.len());
            rest = behind;
            for (a, b) in plane.chunks_exact(size).zip(found.chunks_exact(size)) {
                errors[number] += (value(a) - value(b)).powi(2);
                counts[number] += 1.0;
            }
        }
    }
    assert!(rest.is_empty(), "{} bytes more than there are frames", rest.len());
    let peak = f64::from((1u32 << picture.bit_depth) - 1);
    [0, 1, 2].map(|plane| 10.0 * (peak * peak * counts[plane] / f64::max(errors[plane], 1.0)).log10())
}

/// A chunk that is whole, by its own headers and by another decoder's eyes.
pub fn assert_good(chunk: &EncodedChunk, source: &Chunk, settings: &EncodeSettings) {
    assert_eq!(chunk.units.len(), source.frames.len());
    for (number, unit) in chunk.units.iter().enumerate() {
        assert_eq!(av1::is_random_access_point(unit).unwrap(), number == 0, "unit {number}");
        assert!(obus(unit).all(|obu| obu.is_ok()));
    }
    let header = SequenceHeader::parse(&chunk.sequence_header).unwrap();
    assert_eq!(contract(settings, 25).header().differences(&header), []);
    let [y, u, v] = psnr(&decode(chunk, &settings.format), source, &settings.format);
    assert!(y > 36.0 && u > 38.0 && v > 38.0, "Y {y:.1} dB, U {u:.1} dB, V {v:.1} dB");
}
