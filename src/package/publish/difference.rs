//! How a package differs from what lies in its output folder, for people who ask what a publish will do. It
//! reads no content of files that are recorded, and writes nothing: [`super::publish`] looks for itself.

use std::path::Path;

use super::record::{Record, Stamp};
use super::{FileList, PublishError, RelPath, refuse_foreign_folder};

/// A package against the record of its output folder, paths in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderDifference {
    /// Files that the record lists.
    pub recorded: usize,
    /// Whether the last publish to the folder came to its end.
    pub is_finished: bool,
    /// Files of the package that are not recorded, or not there any more.
    pub added: Vec<RelPath>,
    /// Files that are recorded with other content, or that somebody has touched since.
    pub changed: Vec<RelPath>,
    /// Files that are recorded, and not of the package.
    pub removed: Vec<RelPath>,
}

/// Compares `files` with the record in `folder`, which may not be there. Fails where a publish would refuse the
/// folder because it holds files of others alone, or where the record cannot be read.
pub fn compare(folder: &Path, files: &FileList) -> Result<FolderDifference, PublishError> {
    if folder.is_dir() {
        refuse_foreign_folder(folder, files)?;
    }
    let record = Record::load(folder)?;
    let mut difference = FolderDifference { is_finished: record.list().is_some(), ..Default::default() };
    let mut files = files.files().iter().peekable();
    let mut entries = record.entries()?;
    while let Some(batch) = entries.next_batch()? {
        difference.recorded += batch.len();
        for (path, entry) in batch {
            while let Some(file) = files.next_if(|file| file.path < path) {
                difference.added.push(file.path.clone());
            }
            let Some(file) = files.next_if(|file| file.path == path) else {
                difference.removed.push(path);
                continue;
            };
            let found = path.under(folder);
            if found.symlink_metadata().is_err() {
                difference.added.push(path);
            } else if entry.digest != file.digest
                || entry.stamp.is_none()
                || entry.stamp != Stamp::of(&found, file.size)
            {
                difference.changed.push(path);
            }
        }
    }
    difference.added.extend(files.map(|file| file.path.clone()));
    Ok(difference)
}
