//! The NVENC executor, with a fake driver in place of NVIDIA's that knows NVIDIA's rules: its chunks
//! look like their source by another decoder's eyes, whatever goes wrong is told for what it is, and
//! no rule is broken and nothing kept, however a job ends.
#![cfg(feature = "nvidia")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use common::chunk::{Chunk, FRAMES, assert_good, contract, encode};
use common::fake_nvidia::{in_other_process, with_driver};
use rivet::executors::{
    Blame, EncodeJob, EncodeSettings, EncodedChunk, EncoderSettings, Executor, Failure, GpuEncoder, Nvenc,
    find_nvenc,
};
use rivet::media::av1::SequenceHeader;
use rivet::media::{Colour, HdrMetadata, PictureFormat, Rotation};
use rivet::nvidia::{EncodeCaps, EncodeError};

/// Pictures whose rows are no whole number of what a GPU aligns them to, in one depth or the other.
fn settings(bit_depth: u8, preset: u8) -> EncodeSettings {
    let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 1 };
    let picture = PictureFormat { width: 258, height: 146, bit_depth, rotation: Rotation::None, colour };
    EncodeSettings {
        picture,
        hdr: HdrMetadata::default(),
        crf: 16,
        encoder: EncoderSettings::Nvenc { preset },
    }
}

/// The encoders of all GPUs that have one.
fn found() -> Vec<Nvenc> {
    find_nvenc().unwrap_or_default().into_iter().filter_map(|(_, found)| found.ok()).collect()
}

/// What each GPU's encoder can do, or why it has none.
fn report() -> Vec<(String, Result<EncodeCaps, EncodeError>)> {
    let caps = |(gpu, found): GpuEncoder| (gpu.name, found.map(|nvenc| nvenc.caps().clone()));
    find_nvenc().unwrap_or_default().into_iter().map(caps).collect()
}

fn only() -> Nvenc {
    let mut found = found();
    assert_eq!(found.len(), 1);
    found.remove(0)
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
            settings.picture.colour = colour;
            let contract = contract(&settings, rate);
            let job = EncodeJob {
                pictures: &source,
                settings: &settings,
                contract: &contract,
                threads: 1,
                cancelled: &|| false,
            };
            let chunk = nvenc.encode(&job).outcome.unwrap();
            let header = SequenceHeader::parse(&chunk.sequence_header).unwrap();
            assert_eq!(contract.header().differences(&header), []);
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

/// What is asked for and cannot be is the spec's matter: another encoder may take it.
#[test]
fn what_the_encoder_does_not_take_is_told() {
    for words in ["", "no-10-bit"] {
        with_driver("what_the_encoder_does_not_take_is_told", words, || {
            let (nvenc, source) = (only(), Chunk::new(2));
            let refused = |change: &dyn Fn(&mut EncodeSettings)| {
                let mut settings = settings(8, 4);
                change(&mut settings);
                let failure = encode(&nvenc, &source, &settings).unwrap_err();
                (failure.blame, failure.message)
            };
            let (blame, message) = refused(&|settings| settings.picture.height = 90);
            assert_eq!(
                (blame, message.as_str()),
                (Blame::Spec, "nvenc: it takes no pictures of 258x90, but from 192x128 to 8192x8192")
            );
            let (blame, message) = refused(&|settings| settings.picture.colour.matrix = 14);
            assert_eq!(blame, Blame::Spec);
            assert_eq!(message, "nvenc: it knows no matrix coefficients with the code 14 (ITU-T H.273)");
            let (blame, message) =
                refused(&|settings| settings.encoder = EncoderSettings::Nvenc { preset: 8 });
            assert_eq!((blame, message.as_str()), (Blame::Spec, "nvenc: it has no preset 8"));
            let deep = encode(&nvenc, &source, &settings(10, 4));
            if words.is_empty() {
                assert_good(&deep.unwrap(), &source, &settings(10, 4));
            } else {
                let failure = deep.unwrap_err();
                assert_eq!(failure.blame, Blame::Spec);
                assert_eq!(failure.message, "nvenc: it takes no pictures of 10 bits a sample");
            }
            let (blame, message) =
                refused(&|settings| settings.encoder = EncoderSettings::SvtAv1 { preset: 8 });
            assert!(blame == Blame::Machine && message.starts_with("internal error"), "{message}");
        });
    }
}

#[test]
fn every_fault_is_told_for_what_it_is() {
    let lost = "nvenc: nvEncEncodePicture failed: NV_ENC_ERR_DEVICE_NOT_EXIST \
                (nvEncEncodePicture: the GPU has fallen off the bus)";
    for (words, blame, message) in [
        ("lose=0", Blame::Machine, lost),
        ("lose=7", Blame::Machine, lost),
        (
            "no-memory=7",
            Blame::Machine,
            "nvenc: nvEncEncodePicture failed: NV_ENC_ERR_OUT_OF_MEMORY \
             (nvEncEncodePicture: the encoder finds no memory)",
        ),
        (
            "starve=0",
            Blame::Machine,
            "nvenc: the driver broke its own rules: it wants more than 8 pictures for a packet",
        ),
        (
            "empty=5",
            Blame::Machine,
            "nvenc: the driver broke its own rules: the packet of picture 5 is empty",
        ),
        (
            "empty=22",
            Blame::Machine,
            "nvenc: the driver broke its own rules: the packet of picture 22 is empty",
        ),
        ("late=5", Blame::Machine, "nvenc returned frame 6 in place 5"),
        ("key=9", Blame::Machine, "nvenc put a key frame at frame 9 of a closed sequence"),
        (
            "level=5",
            Blame::Contract,
            "nvenc: the stream breaks the rung's contract: level is 3.1 where 2.0 was agreed",
        ),
        (
            "other-colour",
            Blame::Contract,
            "nvenc: the stream breaks the rung's contract: color_primaries is 4 where 1 was agreed",
        ),
    ] {
        with_driver("every_fault_is_told_for_what_it_is", words, || {
            let (nvenc, source) = (only(), Chunk::new(FRAMES));
            let outcome = encode(&nvenc, &source, &settings(8, 4));
            assert_eq!(outcome.unwrap_err(), Failure { blame, message: message.to_owned() });
            // A GPU that is gone stays gone, and what was taken of it is still given back.
            if words.starts_with("lose") {
                let again = encode(&nvenc, &source, &settings(8, 4)).unwrap_err();
                assert_eq!(again.blame, Blame::Machine);
                assert!(again.message.contains("NV_ENC_ERR_DEVICE_NOT_EXIST"), "{}", again.message);
            }
        });
    }
}

#[test]
fn another_tier_is_told() {
    with_driver("another_tier_is_told", "high-tier", || {
        let settings = settings(8, 4);
        let contract = contract(&settings, 200);
        let pictures = Chunk::new(FRAMES);
        let job = EncodeJob {
            pictures: &pictures,
            settings: &settings,
            contract: &contract,
            threads: 1,
            cancelled: &|| false,
        };
        let failure = only().encode(&job).outcome.unwrap_err();
        assert_eq!(failure.blame, Blame::Contract);
        assert_eq!(
            failure.message,
            "nvenc: the stream breaks the rung's contract: tier is High where Main was agreed"
        );
    });
}

/// One that is busy is asked again; one that wants more input than there is gets to know that the
/// stream ends.
#[test]
fn an_encoder_that_hesitates_comes_through() {
    for (words, noted) in [("busy=9", 2), ("starve=20", 0)] {
        let journal = with_driver("an_encoder_that_hesitates_comes_through", words, || {
            let (nvenc, source) = (only(), Chunk::new(FRAMES));
            assert_good(&encode(&nvenc, &source, &settings(8, 4)).unwrap(), &source, &settings(8, 4));
        });
        assert!(journal.is_none_or(|journal| journal.count("fault: busy") == noted));
    }
}

#[test]
fn a_crash_ends_the_process_and_a_hang_holds_up_no_other_gpu() {
    let test = "a_crash_ends_the_process_and_a_hang_holds_up_no_other_gpu";
    let crash = in_other_process(test, "abort=7", || {
        let _ = encode(&only(), &Chunk::new(FRAMES), &settings(8, 4));
        unreachable!("the driver has ended this process");
    });
    if let Some((status, journal)) = crash {
        assert_eq!(status.signal(), Some(6), "{status}");
        assert_eq!(journal.count("fault: abort"), 1);
        journal.assert_no_breach();
    }
    let hang = in_other_process(test, "gpus=2 hang=7 faulty=0", || {
        let found = found();
        let source = Chunk::new(FRAMES);
        let (reached, is_reached) = std::sync::mpsc::channel();
        std::thread::scope(|threads| {
            let pictures = Chunk::with(move |number| {
                if number == 7 {
                    reached.send(()).unwrap();
                }
                Ok(())
            });
            let hanging = &found[0];
            threads.spawn(move || encode(hanging, &pictures, &settings(8, 4)));
            is_reached.recv().unwrap();
            let other = threads.spawn(|| {
                assert_good(&encode(&found[1], &source, &settings(8, 4)).unwrap(), &source, &settings(8, 4));
            });
            let other = other.join();
            // The thread that hangs would be waited for.
            std::process::exit(i32::from(other.is_err()));
        });
    });
    if let Some((status, journal)) = hang {
        assert!(status.success(), "{status}");
        journal.assert_no_breach();
    }
}

#[test]
fn a_session_more_than_the_driver_grants_is_refused() {
    with_driver("a_session_more_than_the_driver_grants_is_refused", "sessions=1 engines=2", || {
        let nvenc = Arc::new(only());
        assert_eq!(nvenc.slots(), 4);
        let second = Arc::clone(&nvenc);
        // The one session is held while another job asks for one.
        let outer = Chunk::with(move |number| {
            if number == 5 {
                let failure = encode(&*second, &Chunk::new(4), &settings(8, 4)).unwrap_err();
                assert_eq!(failure.blame, Blame::Refused);
                assert_eq!(
                    failure.message,
                    "nvenc: the GPU has no room for another encode: \
                     nvEncOpenEncodeSessionEx failed: NV_ENC_ERR_OUT_OF_MEMORY"
                );
            }
            Ok(())
        });
        assert_good(&encode(&*nvenc, &outer, &settings(8, 4)).unwrap(), &outer, &settings(8, 4));
        // Once it is free the same job goes through.
        let source = Chunk::new(4);
        assert_good(&encode(&*nvenc, &source, &settings(8, 4)).unwrap(), &source, &settings(8, 4));
    });
}

/// Enough for one encode at a time, and not for two; and not even enough for one.
#[test]
fn memory_that_others_hold_is_no_fault_of_the_job() {
    let pictures = 8 * 512 * (146 + 73);
    for memory in [pictures, pictures / 2] {
        let words = format!("memory={memory}");
        with_driver("memory_that_others_hold_is_no_fault_of_the_job", &words, || {
            let nvenc = Arc::new(only());
            let refused = |outcome: Result<EncodedChunk, Failure>| {
                let failure = outcome.unwrap_err();
                assert_eq!(failure.blame, Blame::Refused);
                let message = "nvenc: the GPU has no room for another encode: \
                               cuMemAllocPitch_v2 failed: CUDA_ERROR_OUT_OF_MEMORY";
                assert_eq!(failure.message, message);
            };
            if memory < pictures {
                refused(encode(&*nvenc, &Chunk::new(4), &settings(8, 4)));
                return;
            }
            let second = Arc::clone(&nvenc);
            let outer = Chunk::with(move |number| {
                if number == 5 {
                    refused(encode(&*second, &Chunk::new(4), &settings(8, 4)));
                }
                Ok(())
            });
            assert_good(&encode(&*nvenc, &outer, &settings(8, 4)).unwrap(), &outer, &settings(8, 4));
        });
    }
}

#[test]
fn a_job_that_is_broken_off_leaves_nothing_behind() {
    with_driver("a_job_that_is_broken_off_leaves_nothing_behind", "", || {
        let nvenc = only();
        let settings = settings(8, 7);
        for at in [0, 1, 12, FRAMES - 1] {
            let damaged = Failure { blame: Blame::Source, message: "the source ends here".to_owned() };
            let told = damaged.clone();
            let pictures = Chunk::with(move |number| if number == at { Err(told.clone()) } else { Ok(()) });
            assert_eq!(encode(&nvenc, &pictures, &settings).unwrap_err(), damaged);

            let asked = std::sync::atomic::AtomicUsize::new(0);
            let cancelled = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at;
            let (pictures, contract) = (Chunk::new(FRAMES), contract(&settings, 25));
            let job = EncodeJob {
                pictures: &pictures,
                settings: &settings,
                contract: &contract,
                threads: 1,
                cancelled: &cancelled,
            };
            assert_eq!(nvenc.encode(&job).outcome.unwrap_err().blame, Blame::Cancelled);
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
fn a_gpu_that_is_lost_takes_no_other_with_it() {
    with_driver("a_gpu_that_is_lost_takes_no_other_with_it", "gpus=2 lose=3 faulty=1", || {
        let found = found();
        let source = Chunk::new(FRAMES);
        assert_eq!(encode(&found[1], &source, &settings(8, 4)).unwrap_err().blame, Blame::Machine);
        assert_good(&encode(&found[0], &source, &settings(8, 4)).unwrap(), &source, &settings(8, 4));
    });
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
