//! `rivet devices`.

use std::fmt::Display;

use clap::Args;
use rivet::Budget;
use rivet::machine::{self, Executor, Found, GpuDecoder, Wanted};

use super::{Exit, complain, print};

/// List the encoders and decoders of this machine
///
/// Encoders have the names that a spec uses for them; GPUs that decode have their own. What is not
/// available is listed with the reason.
///
/// Decoding on NVIDIA GPUs (NVDEC) was tested on hardware. Encoding on them (nvenc) was tested only against
/// a simulated driver that enforces the rules of NVIDIA's. FFmpeg's hardware encoders (av1_qsv for Intel,
/// av1_vaapi for Intel and AMD, av1_amf for AMD) are listed where the installed FFmpeg has them and each
/// encodes a small test frame; they follow FFmpeg's documentation and were not tested on hardware. The
/// output of every encoder is checked against the ladder: a mismatch is an error, never a broken stream.
#[derive(Args)]
#[command(after_long_help = rivet::spec::catalog::listing())]
pub struct DevicesArgs {}

pub fn run(_: &DevicesArgs) -> Exit {
    let found = match machine::found_here(Budget::default().slots(), Wanted::All) {
        Ok(found) => found,
        Err(failure) => {
            complain(failure, None);
            return Exit::Failed;
        }
    };
    let Found { executors, unusable } = found;
    let mut encoders: Vec<Row> = executors.iter().map(|executor| encoder(&**executor)).collect();
    encoders.push(Row::new("opus", machine::opus_library(), "CPU; Opus, mono and stereo"));
    section("encoders", &encoders);
    section(
        "encoders that cannot be used",
        &unusable.iter().map(|one| Row::new(&one.encoder, &one.reason, "")).collect::<Vec<_>>(),
    );
    let codecs = format!("CPU; {}", machine::decodable_codecs().join(", "));
    let mut decoders = vec![Row::new(machine::decoder_library(), "", codecs)];
    let (gpus, problems) = machine::gpu_decoders();
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
