//! The NVENC executor, with a fake driver in place of NVIDIA's that knows NVIDIA's rules: its chunks
//! look like their source by another decoder's eyes, on every GPU alike, and no rule is broken and
//! nothing kept.
#![cfg(feature = "nvidia")]

mod common;

use common::chunk::{Chunk, FRAMES, assert_good, encode, task};
use common::fake_nvidia::with_driver;
use common::nvenc::{found, only, settings};
use rivet::testing::executors::{EncodeJob, EncodeSettings, EncodedChunk, Executor, GpuEncoder, find_nvenc};
use rivet::testing::media::Colour;
use rivet::testing::media::av1::SequenceHeader;
use rivet::testing::nvidia::{EncodeCaps, EncodeError};

/// What each GPU's encoder can do, or why it has none.
fn report() -> Vec<(String, Result<EncodeCaps, EncodeError>)> {
    let caps = |(gpu, found): GpuEncoder| (gpu.name, found.map(|nvenc| nvenc.caps().clone()));
    find_nvenc().unwrap_or_default().into_iter().map(caps).collect()
}

#[test]
fn chunks_look_like_their_source() {
    let journal = with_driver("chunks_look_like_their_source", "", || {
        let nvenc = only();
        let source = Chunk::new(FRAMES);
        for (bit_depth, preset) in [(8, 1), (8, 4), (8, 7), (10, 1), (10, 4), (10, 7)] {
            let settings = settings(bit_depth, preset);
            let chunk = encode(&nvenc, &source, &settings).unwrap();
            assert_good(&chunk, &source, &settings);
            assert_eq!(encode(&nvenc, &source, &settings).unwrap(), chunk, "the same again");
        }
    });
    if let Some(journal) = journal {
        assert_eq!(journal.count("+session"), 13, "one to ask, and one for each encode");
    }
}

#[test]
fn chunks_of_any_length_come_out_whole() {
    for words in ["", "b-frames=0"] {
        with_driver("chunks_of_any_length_come_out_whole", words, || {
            let nvenc = only();
            for count in [1, 2, 4, 9, 10, 11] {
                let source = Chunk::new(count);
                let settings = settings(8, 7);
                assert_good(&encode(&nvenc, &source, &settings).unwrap(), &source, &settings);
            }
            // Nothing in, nothing out.
            assert_eq!(encode(&nvenc, &Chunk::new(0), &settings(8, 7)).unwrap().units, [] as [Vec<u8>; 0]);
        });
    }
}

#[test]
fn quality_is_on_the_scale_of_the_others() {
    with_driver("quality_is_on_the_scale_of_the_others", "", || {
        let (nvenc, source) = (only(), Chunk::new(8));
        let bytes = [0, 16, 63].map(|crf| {
            let settings = EncodeSettings { crf, ..settings(8, 4) };
            let chunk = encode(&nvenc, &source, &settings).unwrap();
            chunk.units.iter().map(Vec::len).sum::<usize>()
        });
        assert!(bytes[0] > 2 * bytes[1] && bytes[1] > 2 * bytes[2], "{bytes:?}");
    });
}

#[test]
fn level_and_colours_are_the_contracts() {
    with_driver("level_and_colours_are_the_contracts", "", || {
        let (nvenc, source) = (only(), Chunk::new(6));
        let colours = [
            Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false, chroma_position: 2 },
            Colour { primaries: 12, transfer: 13, matrix: 5, full_range: true, chroma_position: 0 },
            Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false, chroma_position: 1 },
        ];
        // A rate that asks for level 4.0, where streams begin to have a tier, and one that does not.
        for (colour, rate) in colours.into_iter().flat_map(|colour| [(colour, 25), (colour, 200)]) {
            let mut settings = settings(10, 4);
            settings.format.colour = colour;
            let task = task(&settings, rate);
            let job = EncodeJob { task: &task, decoded: &source, threads: 1, cancelled: &|| false };
            let chunk = nvenc.encode(&job).unwrap();
            let header = SequenceHeader::parse(&chunk.sequence_header).unwrap();
            assert_eq!(task.contract.header().differences(&header), []);
            assert_eq!(header.seq_level_idx, if rate == 25 { 0 } else { 8 });
            let found = (header.color_primaries, header.transfer_characteristics, header.matrix_coefficients);
            assert_eq!(found, (colour.primaries, colour.transfer, colour.matrix));
            assert_eq!(
                (header.color_range, header.chroma_sample_position),
                (colour.full_range, colour.chroma_position)
            );
        }
    });
}

#[test]
fn every_gpu_encodes_and_all_alike() {
    for gpus in [2, 8] {
        let words = format!("gpus={gpus} engines=2");
        let journal = with_driver("every_gpu_encodes_and_all_alike", &words, || {
            let found = found();
            let names: Vec<&str> = found.iter().map(|one| one.name()).collect();
            let expected: Vec<String> = (0..gpus).map(|number| format!("nvenc:{number}")).collect();
            assert_eq!(names, expected);
            assert!(found.iter().all(|one| one.encoder() == "nvenc" && one.slots() == 4));
            assert_eq!(
                found[1].identity(),
                "NVENC, driver CUDA 12.1, compute capability 8.9, API 12.1",
                "the same on all GPUs of one kind"
            );
            assert!(found.iter().all(|one| one.identity() == found[0].identity()));
            let source = Chunk::new(6);
            let settings = settings(8, 4);
            let chunks: Vec<EncodedChunk> = std::thread::scope(|threads| {
                let jobs = found.iter().flat_map(|one| std::iter::repeat_n(one, one.slots()));
                let jobs: Vec<_> =
                    jobs.map(|one| threads.spawn(|| encode(one, &source, &settings).unwrap())).collect();
                jobs.into_iter().map(|job| job.join().unwrap()).collect()
            });
            assert_eq!(chunks.len(), 4 * gpus);
            assert_good(&chunks[0], &source, &settings);
            assert!(chunks.iter().all(|chunk| chunk == &chunks[0]));
        });
        if let Some(journal) = journal {
            for number in 0..gpus {
                assert_eq!(journal.count(&format!("+session on GPU {number}")), 5, "GPU {number}");
            }
        }
    }
}

#[test]
fn what_cannot_encode_says_why() {
    let why = |expected: &EncodeError, message: &str| {
        assert_eq!(found().len(), 0);
        let report = report();
        assert_eq!(report.len(), 2);
        for (gpu, outcome) in report {
            assert_eq!(gpu, "Fake RTX 4090");
            let error = outcome.unwrap_err();
            assert_eq!(&error, expected);
            assert_eq!(error.to_string(), message);
        }
    };
    let test = "what_cannot_encode_says_why";
    with_driver(test, "gpus=2 engines=0", || why(&EncodeError::NoEncoder, "the GPU has no encoder"));
    with_driver(test, "gpus=2 no-av1", || why(&EncodeError::NoAv1, "the GPU's encoder makes no AV1"));
    with_driver(test, "gpus=2 api=11.1", || {
        why(
            &EncodeError::TooOld { found: (11, 1), needed: (12, 1) },
            "the NVIDIA driver is too old: it speaks version 11.1 of the encode API, and 12.1 is needed",
        );
    });
    with_driver(test, "gpus=0", || {
        assert_eq!(found().len(), 0);
        assert_eq!(report(), []);
    });
    // A newer driver speaks the version that is wanted, too.
    with_driver(test, "engines=3 api=13.0 no-10-bit b-frames=2", || {
        let report = report();
        let caps =
            EncodeCaps { widths: 192..=8192, heights: 128..=8192, ten_bit: false, b_frames: 2, engines: 3 };
        assert_eq!(report[0].1, Ok(caps));
        assert_eq!(only().slots(), 6);
    });
}
