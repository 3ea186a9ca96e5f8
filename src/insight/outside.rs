//! The two steps whose results lie outside the cache and that have no key: the source file, and the output
//! folder. What an explanation says of them in place of one. Nothing is written.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::build::engine::Engine;
use crate::cache::{Digest, LocalCache};
use crate::package::{FileList, RelPath, compare};
use crate::steps::StepError;
use crate::steps::source::known_source;
use crate::title::Title;

/// Names that a list of files shows.
const MAX_NAMES: usize = 5;

/// A source file, and whether a build has to read it for its digest.
#[derive(Clone, Debug, Serialize)]
pub struct SourceFacts {
    pub path: PathBuf,
    /// Bytes; `None` if it cannot be looked at.
    pub size: Option<u64>,
    pub digest: Option<String>,
    /// What it was in the build that is compared with.
    pub last_digest: Option<String>,
    /// Whether a build has to read all of it.
    pub must_be_read: bool,
    /// Why it has to be read, had to be read for this explanation, or need not be: for people.
    pub why: String,
}

/// An output folder, and what a publish will do there.
#[derive(Clone, Debug, Serialize)]
pub struct PublishFacts {
    pub folder: PathBuf,
    /// Files that rivet's record in the folder lists; `None` if it cannot be read.
    pub recorded: Option<usize>,
    /// Whether the last publish to the folder came to its end.
    pub finished: bool,
    /// What changes; `None` while the title's files are not known.
    pub changes: Option<PublishChanges>,
    /// Why a publish will be refused.
    pub problem: Option<String>,
}

/// The title's files against the record in the output folder.
#[derive(Clone, Debug, Serialize)]
pub struct PublishChanges {
    /// Not recorded, or not there any more.
    pub added: FileNames,
    /// Recorded with other content, or touched since.
    pub changed: FileNames,
    /// Recorded, and not of the title any more.
    pub removed: FileNames,
}

#[derive(Clone, Debug, Serialize)]
pub struct FileNames {
    pub files: usize,
    /// The first few, as paths in the folder.
    pub first: Vec<String>,
}

impl FileNames {
    fn of(paths: &[RelPath]) -> FileNames {
        let first = paths.iter().take(MAX_NAMES).map(ToString::to_string).collect();
        FileNames { files: paths.len(), first }
    }
}

/// `was_known`: whether the cache knew its digest before the dry run, which reads a source that is not known.
pub(super) fn source_facts(
    cache: &LocalCache,
    title: &Title,
    was_known: bool,
    last: Option<Digest>,
) -> SourceFacts {
    let is_known = known_source(cache, &title.source).is_some();
    let reason = match last {
        Some(last) if title.digest == Some(last) => {
            "its times or inode are others than in the last build, or the cache was cleaned; its content is the \
             same"
        }
        Some(_) => "its content has changed since the last build",
        None => "the cache has no digest of a file at this path, with this size, this inode and these times",
    };
    let why = match (was_known, is_known) {
        (true, _) => {
            "its path, size, times and inode are those with which its digest is in the cache".to_owned()
        }
        (false, true) => format!("it was read just now: {reason}"),
        (false, false) => reason.to_owned(),
    };
    SourceFacts {
        path: title.source.clone(),
        size: title.source.metadata().ok().map(|found| found.len()),
        digest: title.digest.map(|digest| digest.to_string()),
        last_digest: last.map(|digest| digest.to_string()),
        must_be_read: !is_known,
        why,
    }
}

pub(super) fn publish_facts(dry_run: &Engine<'_>, title: &Title) -> Result<PublishFacts, StepError> {
    let files = dry_run.live.get(title.id.index()).and_then(|live| live.files());
    Ok(match &files {
        Some(files) => facts(&title.output, files, true),
        // What is recorded is known, whatever will be published.
        None => facts(&title.output, &FileList::new(Vec::new()).map_err(StepError::Publish)?, false),
    })
}

fn facts(folder: &Path, files: &FileList, is_known: bool) -> PublishFacts {
    let folder_path = folder.to_owned();
    match compare(folder, files) {
        Ok(difference) => PublishFacts {
            folder: folder_path,
            recorded: Some(difference.recorded),
            finished: difference.is_finished,
            changes: is_known.then(|| PublishChanges {
                added: FileNames::of(&difference.added),
                changed: FileNames::of(&difference.changed),
                removed: FileNames::of(&difference.removed),
            }),
            problem: None,
        },
        Err(error) => PublishFacts {
            folder: folder_path,
            recorded: None,
            finished: false,
            changes: None,
            problem: Some(error.to_string()),
        },
    }
}
