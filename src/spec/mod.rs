//! Reads `ladder.toml` into a [`Ladder`]: plain types, every default filled in, every rule checked. A
//! [`Ladder`] needs no further checks. It reads the spec and looks at paths (never at their contents), and
//! it never prints.
//!
//! ```text
//! text --toml--> spanned tree --walk (fields, entry)--> values --rules--> Ladder
//!                                   \_________ problems __________/
//!                                              all of them, underlined in the text: SpecErrors
//! ```
//!
//! One file reads one table: `title`, `segments`, `video` (with the rungs), `encoder` (with `ffmpeg` for
//! the tables of FFmpeg's encoders), `audio`, `package`, `cache`. What they share: `keys` says which keys
//! there are, `catalog` which encoders and options, `fields` takes them from a table and `entry` checks
//! their types, `problems` collects what is wrong, `reserved` what has a meaning later, `names` and
//! `outputs` hold the rules that span tables. `fault` shows mistakes that are found later, `idle` warns of
//! keys without effect.

mod audio;
mod cache;
pub mod catalog;
mod document;
mod encoder;
mod entry;
mod errors;
mod fault;
mod ffmpeg;
mod fields;
mod idle;
mod keys;
mod ladder;
mod mask;
mod names;
mod outputs;
mod package;
mod paths;
mod problems;
mod propose;
mod reserved;
mod segments;
mod syntax;
mod title;
mod units;
mod video;

#[cfg(test)]
mod hints;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

pub use catalog::{NvencOptions, Rav1eOptions, SvtAv1Options};
pub use errors::SpecErrors;
pub use fault::{Fault, OptionCheck, no_faults};
pub use idle::idle_keys;
pub use ladder::{
    AudioCodec, AudioRendition, BitDepth, CacheSpec, Crf, Encoder, FfmpegOptions, Ladder, MAX_SIDE, Package,
    PackageFormat, Rung, SegmentMode, SegmentPolicy, Title,
};
pub use propose::{Proposal, propose};
pub use units::{BitsPerSecond, Millis, UnitError};

use paths::BaseDir;
use problems::{Diagnostic, Problems};

/// The largest spec that is read, in bytes. A ladder takes a few hundred; what is larger is some
/// other file, named by mistake.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// Why there is no [`Ladder`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The spec, as it was given.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file was read, and is wrong.
    #[error(transparent)]
    Invalid(#[from] SpecErrors),
}

/// Reads and checks the spec at `path`, except for options of FFmpeg's encoders.
pub fn load(path: &Path) -> Result<Ladder, LoadError> {
    load_with(path, &|_, _| Vec::new())
}

/// Reads and checks the spec at `path`. `check` finds options that an encoder does not
/// take; they are shown with all other mistakes.
pub fn load_with(path: &Path, check: OptionCheck<'_>) -> Result<Ladder, LoadError> {
    let bytes = read(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(error.into_bytes(), path).into()),
    };
    Ok(parse_with(&text, path, check)?)
}

/// Checks a spec whose text is already at hand.
///
/// `path` is where the text stands or would stand: relative paths in the spec start at its parent,
/// and messages name it as it was given. Nothing is read from it.
pub fn parse(text: &str, path: &Path) -> Result<Ladder, SpecErrors> {
    parse_with(text, path, &|_, _| Vec::new())
}

fn parse_with(text: &str, path: &Path, check: OptionCheck<'_>) -> Result<Ladder, SpecErrors> {
    let mut problems = Problems::default();
    let read = match BaseDir::of(path) {
        Ok(base) => parse_at(text, &base, check, &mut problems),
        Err(error) => Err(problems.report(
            Diagnostic::new(format!("cannot tell where the spec is: {error}"))
                .help("name it by an absolute path"),
        )),
    };
    match read {
        Ok(ladder) if problems.is_empty() => {
            Ok(Ladder { text: text.to_owned(), named: path.to_owned(), ..ladder })
        }
        _ => Err(problems.into_errors(path, text)),
    }
}

fn parse_at(
    text: &str,
    base: &BaseDir,
    check: OptionCheck<'_>,
    problems: &mut Problems,
) -> problems::Read<Ladder> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(problems.report(too_large()));
    }
    let tree = syntax::tree(text, problems)?;
    document::read(tree.get_ref(), base, check, problems)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a spec that is too large from one that just fits,
    // also where the file has no size, as a pipe.
    let limit = MAX_SPEC_BYTES as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large() -> Diagnostic {
    Diagnostic::new(format!("the spec is larger than {} MiB", MAX_SPEC_BYTES >> 20))
        .help("a spec is a short text; was another file named by mistake?")
}

/// Shows where the text stops being UTF-8, in a copy that is.
fn not_utf8(bytes: Vec<u8>, path: &Path) -> SpecErrors {
    let mut problems = Problems::default();
    if bytes.len() > MAX_SPEC_BYTES {
        problems.report(too_large());
        return problems.into_errors(path, "");
    }
    let text = String::from_utf8_lossy(&bytes);
    let start = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
    problems.report(
        Diagnostic::new("the spec is not UTF-8")
            .at(start..end, "invalid UTF-8")
            .help("save the file as UTF-8"),
    );
    problems.into_errors(path, &text)
}

#[cfg(test)]
mod tests {
    use super::testing::{SPEC, invalid};
    use super::*;

    fn load_bytes(bytes: &[u8]) -> Result<Ladder, LoadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ladder.toml");
        std::fs::write(&path, bytes).unwrap();
        load(&path)
    }

    fn message(result: Result<Ladder, LoadError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn reads_a_file() {
        let ladder = load_bytes(SPEC.as_bytes()).unwrap();
        assert_eq!(ladder.rungs.len(), 1);
        assert!(ladder.path.is_absolute());
        assert!(ladder.path.ends_with("ladder.toml"));
    }

    #[test]
    fn a_missing_file_is_an_io_error_that_names_it() {
        let error = load(Path::new("/nowhere/ladder.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nowhere/ladder.toml`");
        assert!(matches!(error, LoadError::Io { source, .. }
            if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_folder_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path()), Err(LoadError::Io { .. })));
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        let text = format!("\u{feff}{SPEC}");
        assert!(load_bytes(text.as_bytes()).is_ok());
    }

    #[test]
    fn text_that_is_not_utf8_is_underlined() {
        let text = message(load_bytes(b"[title]\nsource = \"caf\xe9.mp4\"\n"));
        assert!(text.contains("error: the spec is not UTF-8"), "{text}");
        assert!(text.contains("ladder.toml:2:14"), "{text}");
        assert!(text.contains("^ invalid UTF-8"), "{text}");
        assert!(message(load_bytes(b"\xff\xfe[\0")).contains("ladder.toml:1:1"));
        assert!(message(load_bytes(b"# cut off \xe2\x82")).contains(":1:11"));
    }

    #[test]
    fn a_spec_that_is_too_large_is_refused() {
        let padding = "#".repeat(MAX_SPEC_BYTES);
        let text = message(load_bytes(format!("{SPEC}{padding}").as_bytes()));
        assert!(text.contains("the spec is larger than 4 MiB"), "{text}");
        assert!(text.contains("named by mistake"), "{text}");
        assert!(message(load_bytes(&vec![0xff; MAX_SPEC_BYTES + 9])).contains("4 MiB"));
        assert!(parse(&padding[..MAX_SPEC_BYTES - SPEC.len()], Path::new("l.toml")).is_err());
        let fits = format!("{SPEC}{}", &padding[SPEC.len()..]);
        assert_eq!(fits.len(), MAX_SPEC_BYTES);
        assert!(load_bytes(fits.as_bytes()).is_ok());
    }

    #[test]
    fn all_problems_are_reported_in_the_order_of_the_file() {
        let text = invalid(
            r#"
            [title]
            sorce = "a.mp4"
            [[rung]]
            name = "720p"
            height = "720"
            crf = 64
            [package]
            formats = ["dash"]
            "#,
        );
        let titles: Vec<&str> = text.lines().filter(|l| l.starts_with("error")).collect();
        assert_eq!(
            titles,
            [
                "error: missing key `source` in `[title]`",
                "error: missing key `output` in `[title]`",
                "error: unknown key `sorce` in `[title]`",
                "error: `height` in `[[rung]]` must be an integer",
                "error: `crf` in `[[rung]]` must be from 0 to 63",
                "error: `dash` for `formats` in `[package]` is reserved for a later version of rivet",
            ]
        );
    }
}
