//! Content that lies in files: shared or copied, and what becomes of either side when the other changes.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A package's content as files in a folder of their own, named by their digests.
fn store(package: &Package) -> tempfile::TempDir {
    let store = scratch();
    for (content, _) in package.files.values() {
        fs::write(stored(store.path(), &blake3::hash(content)), content).unwrap();
    }
    store
}

fn stored(store: &Path, digest: &blake3::Hash) -> PathBuf {
    store.join(digest.to_hex().as_str())
}

fn publish_from(
    store: &Path,
    package: &Package,
    folder: &Path,
    may_link: bool,
) -> Result<PublishReport, PublishError> {
    publish(folder, &package.list(), &|file| {
        Ok(Content::File { path: stored(store, &file.digest), may_link })
    })
}

fn package() -> Package {
    Package::new(&[("360p", &[1, 2]), ("720p", &[3, 4])])
}

/// Root writes to what is read-only, so nothing is linked for it.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether files in two folders can share content: then nothing is linked.
fn share(one: &Path, other: &Path) -> bool {
    let files = [tempfile::tempfile_in(one).unwrap(), tempfile::tempfile_in(other).unwrap()];
    link::share_content(&files[0], &files[1])
}

#[test]
fn files_are_published_and_a_change_to_them_stays_theirs() {
    let (package, folder) = (package(), scratch());
    let (folder, store) = (folder.path(), store(&package));
    let report = publish_from(store.path(), &package, folder, false).unwrap();
    assert_eq!(report, PublishReport { written: 9, kept: 0, removed: 0 });
    assert_eq!(visible(folder), package.visible());
    for (path, (content, _)) in &package.files {
        fs::write(folder.join(path), "vandalism").unwrap();
        assert_eq!(&fs::read(stored(store.path(), &blake3::hash(content))).unwrap(), content, "{path}");
    }
    publish_from(store.path(), &package, folder, false).unwrap();
    assert_eq!(visible(folder), package.visible());
}

#[test]
fn further_names_are_read_only_and_come_and_go_without_the_file() {
    let (package, folder) = (package(), scratch());
    // Names can only be added within one file system.
    let store_folder = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
    let store = store_folder.path();
    for (content, _) in package.files.values() {
        fs::write(stored(store, &blake3::hash(content)), content).unwrap();
    }
    let folder = folder.path();
    publish_from(store, &package, folder, true).unwrap();
    assert_eq!(visible(folder), package.visible());
    assert!(is_current(folder, package.list().digest()));
    for (path, (content, _)) in &package.files {
        let (published, kept) = (folder.join(path), stored(store, &blake3::hash(content)));
        let is_same = inode(&published) == inode(&kept);
        let mode = published.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(is_same, !is_root() && !share(store, folder), "{path}");
        if is_same {
            assert_eq!(mode, 0o444, "{path}");
            assert!(fs::write(&published, "vandalism").is_err(), "{path}");
        }
    }
    // A second publish reads nothing, though the number of names has changed.
    let never = |_: &PublishFile| Err(io::Error::other("nothing needs reading"));
    assert_eq!(publish(folder, &package.list(), &never).unwrap().kept, 9);
    // What replaces or removes a name leaves the file.
    let next = Package::new(&[("360p", &[1])]);
    next.publish(folder).unwrap();
    assert_eq!(visible(folder), next.visible());
    for (content, _) in package.files.values() {
        assert_eq!(&fs::read(stored(store, &blake3::hash(content))).unwrap(), content);
    }
}

#[test]
fn wrong_content_is_never_published() {
    for may_link in [false, true] {
        let (package, folder) = (package(), scratch());
        let (folder, store) = (folder.path(), store(&package));
        let content = &package.files["720p/media/3.m4s"].0;
        let damaged: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
        fs::write(stored(store.path(), &blake3::hash(content)), damaged).unwrap();
        let error = publish_from(store.path(), &package, folder, may_link).unwrap_err();
        assert!(matches!(error, PublishError::WrongContent { .. }), "{error}");
        assert!(visible(folder).is_empty());
        fs::remove_file(stored(store.path(), &blake3::hash(content))).unwrap();
        let error = publish_from(store.path(), &package, folder, may_link).unwrap_err();
        assert!(matches!(error, PublishError::Content { .. }), "{error}");
        assert!(visible(folder).is_empty());
    }
}

/// What is in a file's place is published or refused, and never changed: neither what a link leads to, nor
/// is a pipe waited for.
#[test]
fn only_regular_files_are_content() {
    for may_link in [false, true] {
        let (package, folder, elsewhere) = (package(), scratch(), scratch());
        let (folder, store) = (folder.path(), store(&package));
        let content = &package.files["720p/media/3.m4s"].0;
        let (place, target) = (stored(store.path(), &blake3::hash(content)), elsewhere.path().join("target"));
        let refused = || {
            let error = publish_from(store.path(), &package, folder, may_link).unwrap_err();
            assert!(matches!(error, PublishError::Content { .. }), "{error}");
            assert!(visible(folder).is_empty());
        };
        fs::write(&target, content).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(&place).unwrap();
        symlink(&target, &place).unwrap();
        refused();
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        fs::remove_file(&place).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        refused();
    }
}

#[test]
fn a_kill_anywhere_is_made_good() {
    for may_link in [false, true] {
        let package = package();
        for steps in 0.. {
            let (folder, store) = (scratch(), store(&package));
            STEPS_LEFT.set(Some(steps));
            let result = catch_unwind(AssertUnwindSafe(|| {
                publish_from(store.path(), &package, folder.path(), may_link)
            }));
            STEPS_LEFT.set(None);
            assert_playable(folder.path());
            let killed = result.is_err();
            publish_from(store.path(), &package, folder.path(), may_link).unwrap();
            assert_eq!(visible(folder.path()), package.visible(), "after {steps} steps");
            for (content, _) in package.files.values() {
                assert_eq!(&fs::read(stored(store.path(), &blake3::hash(content))).unwrap(), content);
            }
            if !killed {
                break;
            }
        }
    }
}
