//! Tells before a build whether its output folder can be written at all, so that nothing is encoded for
//! one that cannot. It leaves nothing behind: neither the folder nor what it tries with.

use std::fs;
use std::io;
use std::path::Path;

use super::error::PublishError;
use super::{OWN_PREFIX, is_foreign};

/// Whether something could be published to `folder`, which may not be there: it holds no files of others
/// alone, and a folder can be made in it or, where it is not there, in the nearest that it would lie in. Of
/// a folder with a file `entry`, which packages have, it shows only later whether the files are rivet's.
/// Permissions are tried rather than read: they are not all that counts, e.g. on a file system that is
/// only read.
pub fn check_folder(folder: &Path, entry: &str) -> Result<(), PublishError> {
    if folder.is_dir() && is_foreign(folder)? && folder.join(entry).symlink_metadata().is_err() {
        return Err(PublishError::ForeignFolder { folder: folder.to_owned() });
    }
    let Some(place) = folder.ancestors().find(|place| place.is_dir()) else { return Ok(()) };
    // Never the output folder itself: another build may be about to fill it.
    let tried = place.join(format!("{OWN_PREFIX}-try-{}", std::process::id()));
    let outcome = match fs::create_dir(&tried) {
        // Left by a process that was killed; whoever could make it can do so again.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    };
    outcome.and_then(|()| fs::remove_dir(&tried)).map_err(|source| PublishError::NotWritable {
        folder: folder.to_owned(),
        place: place.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_made_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        check_folder(&root.path().join("a/b/c"), "entry").unwrap();
        check_folder(root.path(), "entry").unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_both_places() {
        let error = check_folder(Path::new("/proc/stream/bunny"), "entry").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("nothing can be written to the output folder /proc/stream/bunny: in /proc: ")
        );
        assert!(error.hint().unwrap().contains("choose another `output`"));
    }

    #[test]
    fn files_of_others_are_told_before_anything_is_built() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("letter.txt"), "dear").unwrap();
        assert!(matches!(check_folder(root.path(), "entry"), Err(PublishError::ForeignFolder { .. })));
        fs::remove_file(root.path().join("letter.txt")).unwrap();
        fs::create_dir(root.path().join(".rivet-try-1")).unwrap();
        check_folder(root.path(), "entry").unwrap();
    }
}
