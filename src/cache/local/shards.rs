//! Walks the parts of the folder whose files are named by digests: `<part>/ab/abcd…`. What bears
//! no such name was not written here, and is nobody's to remove.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::list;
use crate::cache::{CacheError, Digest};

/// A file in the shard that it belongs to.
pub(super) struct Stored {
    pub name: Digest,
    pub path: PathBuf,
    pub meta: Metadata,
}

/// Something else in a part.
pub(super) enum Stray {
    /// Named by a digest, but in another one's shard, where no look-up finds it.
    Misplaced(PathBuf),
    Foreign(PathBuf),
}

/// The name of a shard: the first two digits of the digests in it.
fn shard_name(shard: u8) -> String {
    format!("{shard:02x}")
}

/// The files of one shard, in order of their names; others go to `stray`.
pub(super) fn files(part: &Path, shard: u8, stray: &mut dyn FnMut(Stray)) -> Result<Vec<Stored>, CacheError> {
    let folder = part.join(shard_name(shard));
    let mut files = Vec::new();
    // `strays` reports what is in the place of a shard.
    for entry in list(&folder)? {
        // It may go while we look.
        let Ok(meta) = entry.metadata() else { continue };
        let (name, path) = (Digest::of_name(&entry.file_name()), entry.path());
        match name {
            Some(name) if meta.is_file() && name.0[0] == shard => files.push(Stored { name, path, meta }),
            Some(_) if meta.is_file() => stray(Stray::Misplaced(path)),
            // A network file system's own, for files that are still open.
            _ if entry.file_name().as_encoded_bytes().starts_with(b".nfs") => {}
            _ => stray(Stray::Foreign(path)),
        }
    }
    files.sort_unstable_by_key(|file| file.name);
    Ok(files)
}

/// What lies in a part beside its shards.
pub(super) fn strays(part: &Path, stray: &mut dyn FnMut(Stray)) -> Result<(), CacheError> {
    for entry in list(part)? {
        let name = entry.file_name();
        let is_shard = name.len() == 2 && (0..=255).any(|shard| *shard_name(shard) == *name);
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match Digest::of_name(&name) {
            _ if is_shard && is_folder => {}
            Some(_) if !is_folder => stray(Stray::Misplaced(entry.path())),
            _ => stray(Stray::Foreign(entry.path())),
        }
    }
    Ok(())
}

/// Does the same with every shard, on all cores; what it brings comes in order of the shards.
pub(super) fn each<T: Send>(work: impl Fn(u8) -> Result<T, CacheError> + Sync) -> Result<Vec<T>, CacheError> {
    (0..=255u8).into_par_iter().map(&work).collect()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Bytes that a file takes on its disk, of which it is told late on some file systems.
pub(super) fn disk_bytes(meta: &Metadata) -> u64 {
    meta.blocks().saturating_mul(512).max(meta.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_strays() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path();
        let name = Digest::of(b"x").to_string();
        let shard = u8::from_str_radix(&name[..2], 16).unwrap();
        let other = shard_name(shard.wrapping_add(1));
        fs::create_dir(part.join(&name[..2])).unwrap();
        fs::create_dir(part.join(&other)).unwrap();
        fs::write(part.join(&name[..2]).join(&name), "x").unwrap();
        fs::write(part.join(&name[..2]).join("notes.txt"), "").unwrap();
        fs::write(part.join(&name[..2]).join(".nfs0001"), "").unwrap();
        fs::write(part.join(&name[..2]).join(name.to_uppercase()), "").unwrap();
        fs::write(part.join(&other).join(&name), "").unwrap();
        fs::write(part.join(&name), "").unwrap();
        fs::create_dir(part.join("zz")).unwrap();
        let (mut misplaced, mut foreign) = (Vec::new(), Vec::new());
        let mut stray = |stray| match stray {
            Stray::Misplaced(path) => misplaced.push(path),
            Stray::Foreign(path) => foreign.push(path),
        };
        let found = files(part, shard, &mut stray).unwrap();
        assert_eq!(found.iter().map(|file| file.name).collect::<Vec<_>>(), [Digest::of(b"x")]);
        assert!(files(part, shard.wrapping_add(1), &mut stray).unwrap().is_empty());
        assert!(files(part, shard.wrapping_add(2), &mut stray).unwrap().is_empty());
        strays(part, &mut stray).unwrap();
        assert_eq!((misplaced.len(), foreign.len()), (2, 3), "{misplaced:?} {foreign:?}");
    }
}
