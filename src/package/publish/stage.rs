//! The staging folder, where files are written and verified before anyone can see them. It lies
//! in the output folder, so that moving a file out of it is one rename. A staged file is named by
//! its path and content: what a killed publish had staged, the next one takes over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::PublishError;
use super::{Content, Open, PublishFile, disk, link};

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

    /// Brings the contents of `files` here. Each gets its name only when it is whole, true and synced.
    /// `before_copy` is told, before the first that takes room on the disk, which files are left.
    pub(super) fn write(
        &self,
        files: &[&PublishFile],
        open: &Open<'_>,
        before_copy: &dyn Fn(&[&PublishFile]) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let (mut rest, mut looked) = (files, false);
        for batch in files.chunks(BATCH) {
            let mut unsynced = Vec::with_capacity(batch.len());
            for file in batch {
                let left = rest;
                rest = rest.get(1..).unwrap_or_default();
                let mut look =
                    || if std::mem::replace(&mut looked, true) { Ok(()) } else { before_copy(left) };
                unsynced.extend(self.bring(file, open, &mut look)?.map(|written| (*file, written)));
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

    /// Brings the content of `file` to a name that none has when it is done; `None` where it has its
    /// own already, as another name of the content itself.
    fn bring(
        &self,
        file: &PublishFile,
        open: &Open<'_>,
        before_copy: &mut dyn FnMut() -> Result<(), PublishError>,
    ) -> Result<Option<(PathBuf, File)>, PublishError> {
        let unreadable = |source| PublishError::Content { path: file.path.clone(), source };
        let scratch = self.place(file).with_extension("unfinished");
        let content = open(file).map_err(unreadable)?;
        let mut out = disk::create_file(&scratch)?;
        match content {
            Content::Stream(mut stream) => {
                before_copy()?;
                copy(file, &mut stream, Some(&mut out), &scratch)?;
            }
            Content::File { path, may_link } => {
                let mut from = disk::open_content(&path).map_err(unreadable)?;
                if link::share_content(&from, &out) {
                    copy(file, &mut from, None, &scratch)?;
                } else {
                    if may_link && link::make_read_only(&from).map_err(unreadable)? {
                        copy(file, &mut from, None, &scratch)?;
                        if self.link(file, &from, &path)? {
                            disk::remove_file(&scratch)?;
                            return Ok(None);
                        }
                        from.rewind().map_err(unreadable)?;
                    }
                    before_copy()?;
                    copy(file, &mut from, Some(&mut out), &scratch)?;
                }
            }
        }
        Ok(Some((scratch, out)))
    }

    /// Stages a file that was verified as another name of itself; `false` where that cannot be.
    fn link(&self, file: &PublishFile, from: &File, path: &Path) -> Result<bool, PublishError> {
        let place = self.place(file);
        disk::remove_file(&place)?;
        disk::add_name(from, path, &place)
    }

    /// Removes the folder and what is in it.
    pub(super) fn clear(&self) -> Result<(), PublishError> {
        disk::remove_folder(&self.folder)
    }
}

/// Verifies the content of `file`, and writes it to `out`, which is at `scratch`, if it is there.
fn copy(
    file: &PublishFile,
    content: &mut dyn Read,
    mut out: Option<&mut File>,
    scratch: &Path,
) -> Result<(), PublishError> {
    // A byte more than there should be is enough to know that there is too much.
    let mut content = content.take(file.size.saturating_add(1));
    let mut digest = blake3::Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let part = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(PublishError::Content { path: file.path.clone(), source }),
        };
        digest.update(part);
        size += part.len() as u64;
        if let Some(out) = &mut out {
            out.write_all(part).map_err(PublishError::io("write", scratch))?;
        }
    }
    let found = digest.finalize();
    if size != file.size || found != file.digest {
        return Err(PublishError::WrongContent {
            path: file.path.clone(),
            expected_size: file.size,
            expected: file.digest,
            found_size: size,
            found,
        });
    }
    Ok(())
}

/// Whether the file at `path` can be read and is what it should be.
pub(super) fn has_digest(path: &Path, digest: blake3::Hash) -> bool {
    let mut hasher = blake3::Hasher::new();
    let found = File::open(path).and_then(|file| hasher.update_reader(file).map(|h| h.finalize()));
    found.is_ok_and(|found| found == digest)
}
