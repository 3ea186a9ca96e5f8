//! `rivet devices`.

use clap::Args;
use rivet::{executors, graph, media};

use super::{Exit, complain, print};

/// List the encoders and decoders found on this machine
#[derive(Args)]
pub struct DevicesArgs {}

pub fn run(_: &DevicesArgs) -> Exit {
    let found = match executors::found_here(graph::default_jobs()) {
        Ok(found) => found,
        Err(failure) => {
            complain(failure, None);
            return Exit::Failed;
        }
    };
    print("encoders");
    for executor in found {
        print(format_args!(
            "  {:<8} {:<40} CPU, {} {}; AV1 4:2:0, 8 and 10 bit",
            executor.name(),
            executor.identity(),
            executor.slots(),
            if executor.slots() == 1 { "slot" } else { "slots" },
        ));
    }
    print(format_args!("  {:<8} {:<40} CPU; Opus, mono and stereo", "opus", media::opus_library()));
    print("decoders");
    print(format_args!("  {:<49} CPU; {}", media::decoder_library(), media::decodable_codecs().join(", ")));
    Exit::Done
}
