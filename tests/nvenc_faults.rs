//! The NVENC executor when something is wrong: what is asked for, the driver, the GPU, the source. It is
//! told for what it is, and no rule is broken and nothing kept, however a job ends.
#![cfg(feature = "nvidia")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use common::chunk::{Chunk, FRAMES, assert_good, encode, task};
use common::fake_nvidia::{in_other_process, with_driver};
use common::nvenc::{found, only, settings};
use rivet::testing::executors::{
    EncodeJob, EncodeSettings, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind,
};

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
                (failure.kind, failure.message)
            };
            let (kind, message) = refused(&|settings| settings.format.height = 90);
            assert_eq!(
                (kind, message.as_str()),
                (FailureKind::Spec, "nvenc: it takes no frames of 258x90, but from 192x128 to 8192x8192")
            );
            let (kind, message) = refused(&|settings| settings.format.width = 259);
            assert_eq!(
                (kind, message.as_str()),
                (FailureKind::Spec, "nvenc: it takes no frames of 259x146: with 4:2:0 both sides are even")
            );
            let (kind, message) = refused(&|settings| settings.format.colour.matrix = 14);
            assert_eq!(kind, FailureKind::Spec);
            assert_eq!(message, "nvenc: it knows no matrix coefficients with the code 14 (ITU-T H.273)");
            let (kind, message) =
                refused(&|settings| settings.encoder = EncoderSettings::Nvenc { preset: 8 });
            assert_eq!((kind, message.as_str()), (FailureKind::Spec, "nvenc: it has no preset 8"));
            let deep = encode(&nvenc, &source, &settings(10, 4));
            if words.is_empty() {
                assert_good(&deep.unwrap(), &source, &settings(10, 4));
            } else {
                let failure = deep.unwrap_err();
                assert_eq!(failure.kind, FailureKind::Spec);
                assert_eq!(failure.message, "nvenc: it takes no frames of 10 bits a sample");
            }
            let (kind, message) =
                refused(&|settings| settings.encoder = EncoderSettings::SvtAv1 { preset: 8 });
            assert!(kind == FailureKind::Machine && message.starts_with("internal error"), "{message}");
        });
    }
}

/// So is what the driver only tells when it is asked to begin: other sequences may be taken.
#[test]
fn what_the_driver_does_not_take_is_told() {
    with_driver("what_the_driver_does_not_take_is_told", "highest-level=4", || {
        let (nvenc, source, settings) = (only(), Chunk::new(2), settings(8, 4));
        let task = task(&settings, 200);
        let job = EncodeJob { task: &task, decoded: &source, threads: 1, cancelled: &|| false };
        let message = "nvenc: nvEncInitializeEncoder failed: NV_ENC_ERR_UNSUPPORTED_PARAM \
                       (nvEncInitializeEncoder: the engine does not go to such a level)";
        let told = Failure { kind: FailureKind::Spec, message: message.to_owned() };
        assert_eq!(nvenc.encode(&job).unwrap_err(), told);
        assert_good(&encode(&nvenc, &source, &settings).unwrap(), &source, &settings);
    });
}

#[test]
fn every_fault_is_told_for_what_it_is() {
    let lost = "nvenc: nvEncEncodePicture failed: NV_ENC_ERR_DEVICE_NOT_EXIST \
                (nvEncEncodePicture: the GPU has fallen off the bus)";
    for (words, kind, message) in [
        ("lose=0", FailureKind::Machine, lost),
        ("lose=7", FailureKind::Machine, lost),
        (
            "no-memory=7",
            FailureKind::Machine,
            "nvenc: nvEncEncodePicture failed: NV_ENC_ERR_OUT_OF_MEMORY \
             (nvEncEncodePicture: the encoder finds no memory)",
        ),
        (
            "starve=0",
            FailureKind::Machine,
            "nvenc: the driver broke its own rules: it wants more than 8 frames for a packet",
        ),
        (
            "empty=5",
            FailureKind::Machine,
            "nvenc: the driver broke its own rules: the packet of frame 5 is empty",
        ),
        (
            "empty=22",
            FailureKind::Machine,
            "nvenc: the driver broke its own rules: the packet of frame 22 is empty",
        ),
        ("late=5", FailureKind::Machine, "nvenc returned frame 6 in place 5"),
        ("key=9", FailureKind::Machine, "nvenc put a key frame at frame 9 of a closed sequence"),
        ("level=5", FailureKind::Contract, "nvenc: sequence header check failed: level is 3.1, expected 2.0"),
        (
            "other-colour",
            FailureKind::Contract,
            "nvenc: sequence header check failed: color_primaries is 4, expected 1",
        ),
    ] {
        with_driver("every_fault_is_told_for_what_it_is", words, || {
            let (nvenc, source) = (only(), Chunk::new(FRAMES));
            let outcome = encode(&nvenc, &source, &settings(8, 4));
            assert_eq!(outcome.unwrap_err(), Failure { kind, message: message.to_owned() });
            // A GPU that is gone stays gone, and what was taken of it is still given back.
            if words.starts_with("lose") {
                let again = encode(&nvenc, &source, &settings(8, 4)).unwrap_err();
                assert_eq!(again.kind, FailureKind::Machine);
                assert!(again.message.contains("NV_ENC_ERR_DEVICE_NOT_EXIST"), "{}", again.message);
            }
        });
    }
}

#[test]
fn another_tier_is_told() {
    with_driver("another_tier_is_told", "high-tier", || {
        let settings = settings(8, 4);
        let task = task(&settings, 200);
        let pictures = Chunk::new(FRAMES);
        let job = EncodeJob { task: &task, decoded: &pictures, threads: 1, cancelled: &|| false };
        let failure = only().encode(&job).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Contract);
        assert_eq!(failure.message, "nvenc: sequence header check failed: tier is High, expected Main");
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
                assert_eq!(failure.kind, FailureKind::ResourceExhausted);
                assert_eq!(
                    failure.message,
                    "nvenc: no encode session is available: \
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
                assert_eq!(failure.kind, FailureKind::ResourceExhausted);
                let message = "nvenc: no encode session is available: \
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
            let damaged = Failure { kind: FailureKind::Source, message: "the source ends here".to_owned() };
            let told = damaged.clone();
            let pictures = Chunk::with(move |number| if number == at { Err(told.clone()) } else { Ok(()) });
            assert_eq!(encode(&nvenc, &pictures, &settings).unwrap_err(), damaged);

            let asked = std::sync::atomic::AtomicUsize::new(0);
            let cancelled = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at;
            let (pictures, task) = (Chunk::new(FRAMES), task(&settings, 25));
            let job = EncodeJob { task: &task, decoded: &pictures, threads: 1, cancelled: &cancelled };
            assert_eq!(nvenc.encode(&job).unwrap_err().kind, FailureKind::Cancelled);
        }
    });
}

#[test]
fn a_gpu_that_is_lost_takes_no_other_with_it() {
    with_driver("a_gpu_that_is_lost_takes_no_other_with_it", "gpus=2 lose=3 faulty=1", || {
        let found = found();
        let source = Chunk::new(FRAMES);
        assert_eq!(encode(&found[1], &source, &settings(8, 4)).unwrap_err().kind, FailureKind::Machine);
        assert_good(&encode(&found[0], &source, &settings(8, 4)).unwrap(), &source, &settings(8, 4));
    });
}
