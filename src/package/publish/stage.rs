//! The staging folder, where files are written and verified before anyone can see them. It lies
//! in the output folder, so that moving a file out of it is one rename. A staged file is named by
//! its path and content: what a killed publish had staged, the next one takes over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::PublishError;
use super::{Contents, PublishFile, disk};
use crate::package::composition::{ComposeError, ContentId};

pub(super) const STAGE_NAME: &str = ".rivet-tmp";

/// Files that are synced together: as many are open at a time.
const BATCH: usize = 64;

pub(super) struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// The staging folder of `output`, which may not be there.
    pub(super) fn of(output: &Path) -> Stage {
        Stage { folder: output.join(STAGE_NAME) }
    }

    /// The staging folder of `output`, created if need be, emptied of all that is not for `files`.
    pub(super) fn open(output: &Path, files: &[&PublishFile]) -> Result<Stage, PublishError> {
        let stage = Stage::of(output);
        if stage.folder.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            disk::remove_file(&stage.folder)?;
        }
        disk::create_folder(&stage.folder)?;
        let wanted: BTreeSet<PathBuf> = files.iter().map(|file| stage.place(file)).collect();
        let list = || PublishError::io("list", &stage.folder);
        for entry in fs::read_dir(&stage.folder).map_err(list())? {
            let path = entry.map_err(list())?.path();
            if path.is_dir() && !path.is_symlink() {
                disk::remove_folder(&path)?;
            } else if !wanted.contains(&path) {
                disk::remove_file(&path)?;
            }
        }
        Ok(stage)
    }

    /// Where `file` is staged.
    pub(super) fn place(&self, file: &PublishFile) -> PathBuf {
        let mut name = blake3::Hasher::new();
        name.update(file.digest.as_bytes()).update(file.path.as_str().as_bytes());
        self.folder.join(&name.finalize().to_hex()[..32])
    }

    /// A name for a record that is still being written.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    /// Whether `file` is staged already, by a publish that was killed. Read again, since a disk
    /// may have lost what was not synced.
    pub(super) fn holds(&self, file: &PublishFile) -> bool {
        let place = self.place(file);
        let found = place.symlink_metadata();
        found.is_ok_and(|found| found.is_file() && found.len() == file.size)
            && has_digest(&place, file.digest)
    }

    /// Puts `files` together here. Each gets its name only when it is whole, true and synced.
    pub(super) fn write(
        &self,
        files: &[&PublishFile],
        contents: &mut dyn Contents,
    ) -> Result<(), PublishError> {
        for batch in files.chunks(BATCH) {
            let mut unsynced = Vec::with_capacity(batch.len());
            for file in batch {
                unsynced.push((*file, self.put_together(file, contents)?));
            }
            // A disk takes many of them at a time almost as fast as one.
            unsynced.par_iter().try_for_each(|(_, (scratch, out))| {
                out.sync_all().map_err(PublishError::io("sync", scratch))
            })?;
            for (file, (scratch, _)) in &unsynced {
                disk::rename(scratch, &self.place(file))?;
            }
        }
        Ok(())
    }

    /// Puts `file` together under a name that none has when it is done.
    fn put_together(
        &self,
        file: &PublishFile,
        contents: &mut dyn Contents,
    ) -> Result<(PathBuf, File), PublishError> {
        let scratch = self.place(file).with_extension("unfinished");
        let unreadable = |source| PublishError::Content { path: file.path.clone(), source };
        let composition = contents.composition(file).map_err(unreadable)?;
        let mut out = disk::create_file(&scratch)?;
        let wrong = |found: ContentId| PublishError::WrongContent {
            path: file.path.clone(),
            expected: ContentId { digest: file.digest, size: file.size },
            found,
        };
        if (composition.content.digest, composition.content.size) != (file.digest, file.size) {
            return Err(wrong(composition.content));
        }
        match composition.write_to(contents, &mut out) {
            Ok(()) => Ok((scratch, out)),
            Err(ComposeError::Write(error)) => Err(PublishError::io("write", &scratch)(error)),
            Err(ComposeError::Whole { found, .. }) => Err(wrong(found)),
            Err(source) => Err(PublishError::Part { path: file.path.clone(), source }),
        }
    }

    /// Removes the folder and what is in it.
    pub(super) fn clear(&self) -> Result<(), PublishError> {
        disk::remove_folder(&self.folder)
    }
}

/// Whether the file at `path` can be read and is what it should be.
pub(super) fn has_digest(path: &Path, digest: blake3::Hash) -> bool {
    let mut hasher = blake3::Hasher::new();
    let found = File::open(path).and_then(|file| hasher.update_reader(file).map(|h| h.finalize()));
    found.is_ok_and(|found| found == digest)
}
