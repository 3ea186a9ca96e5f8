//! The files of a package, as they are to lie in an output folder.

use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;

use super::OWN_PREFIX;
use super::error::PublishError;
use crate::package::path::RelPath;

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFile {
    /// Where it goes, within the output folder.
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: blake3::Hash,
    pub role: Role,
}

/// When a file may be seen: after all of the roles before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Initialization and media segments, whole MP4 files: they name no other file.
    Media,
    /// A media playlist: names media.
    Playlist,
    /// A multivariant playlist or a DASH manifest: names anything.
    Entry,
}

/// All files of a package, in order of path.
#[derive(Clone, Debug)]
pub struct FileList {
    files: Vec<PublishFile>,
    digest: blake3::Hash,
}

impl FileList {
    /// Puts `files` in order, and refuses those that cannot be a folder's content.
    pub fn new(mut files: Vec<PublishFile>) -> Result<FileList, PublishError> {
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        check(&files)?;
        let mut digest = ListDigest::default();
        for file in &files {
            digest.add(&file.path, file.size, &file.digest);
        }
        Ok(FileList { digest: digest.finish(), files })
    }

    pub fn files(&self) -> &[PublishFile] {
        &self.files
    }

    /// BLAKE3 of what the package holds: of each file its path, size and digest. In whatever order
    /// they were given, the same files have the same digest.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }
}

/// Adds up the digest of a list whose files come in order of path.
pub(super) struct ListDigest {
    hasher: blake3::Hasher,
    /// What is to be hashed next: BLAKE3 is ten times as fast on much at once.
    pending: Vec<u8>,
}

impl Default for ListDigest {
    fn default() -> ListDigest {
        ListDigest { hasher: blake3::Hasher::new_derive_key("rivet published list v1"), pending: Vec::new() }
    }
}

impl ListDigest {
    pub fn add(&mut self, path: &RelPath, size: u64, digest: &blake3::Hash) {
        const AT_ONCE: usize = 64 * 1024;
        let path = path.as_str().as_bytes();
        self.pending.extend((path.len() as u64).to_le_bytes());
        self.pending.extend(path);
        self.pending.extend(size.to_le_bytes());
        self.pending.extend(digest.as_bytes());
        if self.pending.len() >= AT_ONCE {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
    }

    pub fn finish(&mut self) -> blake3::Hash {
        self.hasher.update(&self.pending);
        self.pending.clear();
        self.hasher.finalize()
    }
}

/// Refuses a sorted list that cannot be a folder's content.
fn check(files: &[PublishFile]) -> Result<(), PublishError> {
    let refuse = |path: &RelPath, reason| Err(PublishError::BadList { path: path.clone(), reason });
    for file in files {
        if file.path.as_str().starts_with(OWN_PREFIX) {
            return refuse(&file.path, "names that begin with `.rivet` are for rivet's own files");
        }
    }
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return refuse(&pair[0].path, "two files have this path");
    }
    let folders = folders_of(files.iter().map(|file| &file.path));
    let is_file = |folder: &str| files.binary_search_by(|file| file.path.as_str().cmp(folder)).is_ok();
    let is_in = |file: &&PublishFile, folder: &str| file.path.folders().any(|other| other == folder);
    if let Some(folder) = folders.iter().find(|folder| is_file(folder))
        && let Some(file) = files.iter().find(|file| is_in(file, folder))
    {
        return refuse(&file.path, "a folder on its way is also a file of the package");
    }
    Ok(())
}

/// The folders on the way to paths. Paths of one folder mostly follow one another.
pub(super) fn folders_of<'a>(paths: impl Iterator<Item = &'a RelPath>) -> BTreeSet<&'a str> {
    let mut folders = BTreeSet::new();
    let mut last = None;
    for path in paths {
        let parent = path.as_str().rsplit_once('/').map(|(parent, _)| parent);
        if parent != last {
            folders.extend(path.folders());
            last = parent;
        }
    }
    folders
}
