//! `rivet init`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::iter;
use std::path::{Path, PathBuf};

use clap::Args;
use rivet::Budget;
use rivet::machine::{self, Wanted};
use rivet::source::{self, MediaError, VideoTrack};
use rivet::spec::{Encoder, Proposal, propose};

use super::{Exit, complain, print};

/// Write a commented ladder.toml that fits a source
#[derive(Args)]
pub struct InitArgs {
    /// A video file
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The file to write, which must not exist yet. `-` prints the spec instead
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
    let (video, audio) = source::probe(&args.source).map_err(|error| {
        // There is no spec yet that could have it wrong.
        let hint = match error {
            MediaError::Open { .. } => Some("name a video file: rivet init SOURCE"),
            _ => error.hint(),
        };
        complain(&error, hint);
        Exit::Failed
    })?;
    let svt_av1 = BTreeSet::from([Encoder::SvtAv1.name()]);
    let found =
        machine::found_here(Budget::default().slots(), Wanted::Named(&svt_av1)).map_err(|failure| {
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
        audio: !audio.is_empty(),
        has_svt_av1: !found.executors.is_empty(),
    });
    if args.output == Path::new("-") {
        print(text.trim_end());
        return Ok(());
    }
    let written = File::create_new(&args.output).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| unwritten(&args.output, &error))?;
    print(format_args!(
        "wrote {}; `{}` builds the stream",
        args.output.display(),
        build_command(&args.output)
    ));
    Ok(())
}

/// Prints why a spec cannot be written.
fn unwritten(spec: &Path, error: &io::Error) -> Exit {
    let hint = match error.kind() {
        ErrorKind::AlreadyExists => Some("name another file with --output"),
        ErrorKind::NotFound => Some("create its folder first, or name another file with --output"),
        _ => None,
    };
    complain(format_args!("cannot write {}: {error}", spec.display()), hint);
    Exit::Failed
}

/// The command that builds a spec, as it is typed.
fn build_command(spec: &Path) -> String {
    let name = spec.display().to_string();
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
    match name.as_str() {
        "ladder.toml" => "rivet build".to_owned(),
        _ if is_plain => format!("rivet build {name}"),
        _ => format!("rivet build '{}'", name.replace('\'', "'\\''")),
    }
}

/// The display size, in square samples.
fn shown(video: &VideoTrack) -> (u32, u32) {
    let (height, aspect) = (video.display_height(), video.display_aspect());
    let width = u64::from(height) * aspect.num / aspect.den.max(1);
    (u32::try_from(width).unwrap_or(u32::MAX), height)
}

/// The source's path from the spec's folder: relative where they have more than the root folder in common.
fn seen_from(spec: &Path, source: &Path) -> Result<String, Exit> {
    let folder = match spec.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| unwritten(spec, &error))?;
    let file = source.canonicalize().map_err(|error| {
        complain(format_args!("cannot find {}: {error}", source.display()), None);
        Exit::Failed
    })?;
    let shared = folder.ancestors().find(|folder| file.starts_with(folder) && folder.parent().is_some());
    let path = match shared {
        Some(shared) => {
            let up = folder.components().count() - shared.components().count();
            let down = file.strip_prefix(shared).unwrap_or(&file);
            iter::repeat_n(Path::new(".."), up).chain([down]).collect()
        }
        None => file,
    };
    path.to_str().map(str::to_owned).ok_or_else(|| {
        complain(format_args!("the path of {} is not UTF-8, so no spec can name it", source.display()), None);
        Exit::Usage
    })
}
