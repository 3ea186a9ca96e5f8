//! `rivet devices`.

use clap::Args;
use rivet::executors::{Executor, Rav1e};
use rivet::{graph, media};

use super::{Exit, complain, print};

/// List the encoders and decoders found on this machine
#[derive(Args)]
pub struct DevicesArgs {}

pub fn run(_: &DevicesArgs) -> Exit {
    let jobs = graph::default_jobs();
    let rav1e = match Rav1e::new(jobs) {
        Ok(rav1e) => rav1e,
        Err(failure) => {
            complain(failure, None);
            return Exit::Failed;
        }
    };
    print("encoders");
    print(format_args!(
        "  {:<8} {:<16} CPU, {} {}; AV1 4:2:0, 8 and 10 bit",
        rav1e.name(),
        rav1e.identity(),
        rav1e.slots(),
        if rav1e.slots() == 1 { "slot" } else { "slots" },
    ));
    print(format_args!("  {:<8} {:<16} CPU; Opus, mono and stereo", "opus", media::opus_library()));
    print("decoders");
    print(format_args!("  {:<25} CPU; {}", media::decoder_library(), media::decodable_codecs().join(", ")));
    Exit::Done
}
