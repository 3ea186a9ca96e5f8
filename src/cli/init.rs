//! `rivet init`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use rivet::executors::Wanted;
use rivet::media::{self, VideoTrack};
use rivet::spec::{Encoder, Proposal, propose};
use rivet::{executors, graph};

use super::{Exit, complain, print};

/// Write a commented ladder.toml fitted to a source
#[derive(Args)]
pub struct InitArgs {
    /// A video
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Where to write it; a file that is there stays as it is. `-` prints it instead
    #[arg(short, long, value_name = "FILE", default_value = "ladder.toml")]
    output: PathBuf,
}

pub fn run(args: &InitArgs) -> Exit {
    match try_run(args) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

fn try_run(args: &InitArgs) -> Result<(), Exit> {
    let (video, audio) = media::probe(&args.source).map_err(|error| {
        complain(&error, error.hint());
        Exit::Failed
    })?;
    let svt_av1 = BTreeSet::from([Encoder::SvtAv1.name()]);
    let found = executors::found_here(graph::default_jobs(), Wanted::Named(&svt_av1)).map_err(|failure| {
        complain(failure, None);
        Exit::Failed
    })?;
    let (width, height) = shown(&video);
    let stem = args.source.file_stem().and_then(|stem| stem.to_str()).unwrap_or("stream");
    let text = propose(&Proposal {
        source: &seen_from(&args.output, &args.source)?,
        output: &format!("dist/{stem}"),
        width,
        height,
        sound: !audio.is_empty(),
        svt_av1: !found.executors.is_empty(),
    });
    if args.output == Path::new("-") {
        print(text.trim_end());
        return Ok(());
    }
    let written = File::create_new(&args.output).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let there = error.kind() == std::io::ErrorKind::AlreadyExists;
        let hint = there.then_some("it stays as it is; name another file with --output");
        complain(format_args!("cannot write {}: {error}", args.output.display()), hint);
        Exit::Failed
    })?;
    print(format_args!("wrote {}; `rivet build` makes the stream", args.output.display()));
    Ok(())
}

/// The picture's size as shown, in square samples.
fn shown(video: &VideoTrack) -> (u32, u32) {
    let (height, aspect) = (video.display_height(), video.display_aspect());
    let width = u64::from(height) * aspect.num / aspect.den.max(1);
    (u32::try_from(width).unwrap_or(u32::MAX), height)
}

/// The source's path from the spec's folder: relative where it lies in or below it.
fn seen_from(spec: &Path, source: &Path) -> Result<String, Exit> {
    let failed = |error: std::io::Error| {
        complain(format_args!("cannot find {}: {error}", source.display()), None);
        Exit::Failed
    };
    let folder = match spec.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (folder, file) = (folder.canonicalize().map_err(failed)?, source.canonicalize().map_err(failed)?);
    let path = file.strip_prefix(&folder).unwrap_or(&file);
    path.to_str().map(str::to_owned).ok_or_else(|| {
        complain(
            format_args!("the path of {} is not UTF-8, which a spec cannot name", source.display()),
            None,
        );
        Exit::Usage
    })
}
