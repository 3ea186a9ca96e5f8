//! `rivet devices`.

use std::fmt::Display;

use clap::Args;
use rivet::executors::{Executor, Found, Wanted};
use rivet::media::GpuDecoder;
use rivet::{executors, graph, media};

use super::{Exit, complain, print};

/// List the encoders and decoders found on this machine, and why one cannot be used
///
/// Encoders are listed by the names that a spec has for them, and GPUs that decode by their own.
///
/// Decoding on NVIDIA's GPUs (NVDEC) has been run on an H100. Encoding on them (nvenc) has not been run on
/// hardware yet, only against a driver made for rivet's tests, which holds it to the rules of NVIDIA's.
/// FFmpeg's encoders for hardware are
/// listed where the installed FFmpeg has them, each tried on a small picture; rivet's use of them
/// follows FFmpeg's documentation and tables and has not been run on such hardware yet, either. What any of
/// them makes is held against the ladder, so what does not fit is an error, never a broken stream.
#[derive(Args)]
#[command(after_long_help = rivet::spec::catalog::listing())]
pub struct DevicesArgs {}

pub fn run(_: &DevicesArgs) -> Exit {
    let found = match executors::found_here(graph::default_jobs(), Wanted::All) {
        Ok(found) => found,
        Err(failure) => {
            complain(failure, None);
            return Exit::Failed;
        }
    };
    let Found { executors, unusable } = found;
    let mut encoders: Vec<Row> = executors.iter().map(|executor| encoder(&**executor)).collect();
    encoders.push(Row::new("opus", media::opus_library(), "CPU; Opus, mono and stereo"));
    section("encoders", &encoders);
    section(
        "encoders that cannot be used",
        &unusable.iter().map(|one| Row::new(&one.encoder, &one.reason, "")).collect::<Vec<_>>(),
    );
    let codecs = format!("CPU; {}", media::decodable_codecs().join(", "));
    let mut decoders = vec![Row::new(media::decoder_library(), "", codecs)];
    let (gpus, problems) = media::gpu_decoders();
    decoders.extend(gpus.iter().map(gpu));
    section("decoders", &decoders);
    let problems: Vec<Row> = problems.iter().map(|problem| Row::new("nvdec", problem, "")).collect();
    section("decoders that cannot be used", &problems);
    Exit::Done
}

/// A GPU that decodes: its engines, and each codec with its depths.
fn gpu(gpu: &GpuDecoder) -> Row {
    let mut codecs: Vec<(&str, Vec<String>)> = Vec::new();
    for codec in &gpu.codecs {
        let depth = codec.bit_depth.to_string();
        match codecs.iter_mut().find(|(name, _)| *name == codec.name) {
            Some((_, depths)) => depths.push(depth),
            None => codecs.push((&codec.name, vec![depth])),
        }
    }
    let codecs: Vec<String> =
        codecs.into_iter().map(|(name, depths)| format!("{name} {} bit", depths.join("/"))).collect();
    Row::new("nvdec", &gpu.name, format!("GPU, {} engines; {}", gpu.engines, codecs.join(", ")))
}

fn encoder(executor: &dyn Executor) -> Row {
    let slots = executor.slots();
    let depths: Vec<String> = executor.bit_depths().iter().map(u8::to_string).collect();
    let remark = format!(
        "{}, {slots} {}; AV1 4:2:0, {} bit",
        executor.place(),
        if slots == 1 { "slot" } else { "slots" },
        depths.join(" and "),
    );
    Row::new(executor.name(), executor.identity(), remark)
}

/// A line of a section.
struct Row {
    name: String,
    identity: String,
    remark: String,
}

impl Row {
    fn new(name: impl Display, identity: impl Display, remark: impl Display) -> Row {
        Row { name: name.to_string(), identity: identity.to_string(), remark: remark.to_string() }
    }
}

/// Prints rows in columns below a heading; nothing where there is no row.
fn section(heading: &str, rows: &[Row]) {
    let widest = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max();
    let (Some(names), Some(identities)) = (widest(|row| &row.name), widest(|row| &row.identity)) else {
        return;
    };
    print(heading);
    for Row { name, identity, remark } in rows {
        let line = format!("  {name:<names$}  {identity:<identities$}  {remark}");
        print(line.trim_end());
    }
}
