use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::super::single_object::ObjectStore;
use super::super::store::{Backend, OpendalStore};
use super::super::{BlobRef, ObjectKey};
use super::sweep::ABANDONED_AFTER;
use super::*;
use crate::cache::Digest;
use crate::cache::remote::delivery::{Collector, Delivery};
use crate::cache::remote::{BlobSource, BlobStream};

const CONTENT: &[u8] = b"content";

fn blob() -> BlobRef {
    BlobRef { digest: Digest::of(CONTENT), size: CONTENT.len() as u64 }
}

struct Content;

impl BlobSource for Content {
    fn open(&self, _blob: &BlobRef) -> BlobStream {
        stream::iter([Ok(Bytes::from_static(CONTENT))]).boxed()
    }
}

fn folder(path: &Path) -> Folder {
    Folder::at(&format!("fs://{}", path.display()).parse().unwrap()).unwrap()
}

fn store(path: &Path) -> OpendalStore {
    OpendalStore::new(Backend::Folder(Box::new(folder(path))))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn read(path: &Path) -> Result<bool, RemoteError> {
    run(async { folder(path).reader(&ObjectKey::blob(&blob())).await.map(|operator| operator.is_some()) })
}

fn write(path: &Path) -> Result<(), RemoteError> {
    run(async { folder(path).writer(&ObjectKey::blob(&blob())).await.map(drop) })
}

/// What OpenDAL itself calls a file while it writes it.
fn temporary(name: &str) -> String {
    opendal::raw::build_tmp_path_of(&format!("blobs/ab/{}", blake3::hash(name.as_bytes())))
}

fn old_file(path: &Path) {
    let file = fs::File::create(path).unwrap();
    file.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).unwrap();
}

#[test]
fn a_share_that_is_not_mounted_is_not_made() {
    let place = tempfile::tempdir().unwrap();
    // The empty mount point is there, and what lies within the share is not.
    let team = place.path().join("team");
    for error in [read(&team).unwrap_err(), write(&team).unwrap_err()] {
        assert_eq!(error.fault, RemoteFault::Transient);
        assert!(error.message.contains("there is no folder") && error.message.contains("mount"), "{error}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    fs::create_dir(&team).unwrap();
    write(&team).unwrap();
    assert!(team.join("v3/tmp").is_dir());
}

/// The errors of everything that can be done with a blob.
async fn all_fail(store: &OpendalStore) -> [RemoteError; 5] {
    let object = ObjectKey::blob(&blob());
    [
        store.put_blob(&blob(), &Content).await.unwrap_err(),
        store.put(&object, Bytes::from_static(CONTENT)).await.unwrap_err(),
        store.remove(&object).await.unwrap_err(),
        store.has(&blob()).await.unwrap_err(),
        store.read(&object, &mut Delivery::new(&Collector::new(1), 0, String::new(), 100)).await.unwrap_err(),
    ]
}

#[test]
fn a_share_that_goes_away_in_mid_build_is_not_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let (team, away) = (place.path().join("team"), place.path().join("away"));
    fs::create_dir(&team).unwrap();
    let store = store(&team);
    run(async {
        store.put_blob(&blob(), &Content).await.unwrap();
        assert!(store.has(&blob()).await.unwrap());
        fs::rename(&team, &away).unwrap();
        for below in [false, true] {
            // What lies below a mount point may be a folder of the same layout.
            if below {
                fs::create_dir_all(team.join("v3/blobs")).unwrap();
            }
            for error in all_fail(&store).await {
                assert_eq!(error.fault, RemoteFault::Transient);
                assert!(error.message.contains("is gone"), "{error}");
            }
            assert_eq!(team.exists(), below);
            assert_eq!(team.join("v3/blobs").read_dir().map_or(0, Iterator::count), 0);
        }
        fs::remove_dir_all(&team).unwrap();
        fs::rename(&away, &team).unwrap();
        assert!(store.has(&blob()).await.unwrap(), "the share is back");
    });
}

#[test]
fn a_link_in_a_shards_place_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (team, elsewhere) = (place.path().join("team"), place.path().join("elsewhere"));
    let object = ObjectKey::blob(&blob());
    fs::create_dir_all(team.join("v3/blobs")).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let theirs = elsewhere.join(blob().digest.to_string());
    fs::write(&theirs, "theirs").unwrap();
    symlink(&elsewhere, team.join("v3/blobs").join(object.shard())).unwrap();
    let store = store(&team);
    run(async {
        for error in all_fail(&store).await {
            assert_eq!(error.fault, RemoteFault::Unsupported);
            assert!(error.message.contains("no link"), "{error}");
        }
    });
    assert_eq!(fs::read(theirs).unwrap(), b"theirs");
}

#[test]
fn looking_makes_nothing_and_removes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let team = place.path().join("team");
    fs::create_dir(&team).unwrap();
    assert!(!read(&team).unwrap());
    assert_eq!(fs::read_dir(&team).unwrap().count(), 0);
    fs::create_dir_all(team.join("v3/blobs").join(ObjectKey::blob(&blob()).shard())).unwrap();
    let read_only = fs::Permissions::from_mode(0o555);
    fs::set_permissions(team.join("v3"), read_only).unwrap();
    assert!(read(&team).unwrap());
    assert!(!team.join("v3/tmp").exists());
    fs::set_permissions(team.join("v3"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(team.join("v3/tmp")).unwrap();
    let old = team.join("v3/tmp").join(temporary("old"));
    old_file(&old);
    assert!(read(&team).unwrap() && old.exists());
}

#[test]
fn what_was_left_long_ago_is_swept() {
    let place = tempfile::tempdir().unwrap();
    write(place.path()).unwrap();
    let tmp = place.path().join("v3/tmp");
    let (old, new) = (tmp.join(temporary("old")), tmp.join(temporary("new")));
    fs::write(&new, "").unwrap();
    old_file(&old);
    // Nobody else's files.
    let others = ["thesis.tex", &temporary("x")[..64]].map(|name| tmp.join(name));
    others.iter().for_each(|other| old_file(other));
    let link = tmp.join(temporary("link"));
    symlink("/nowhere", &link).unwrap();
    write(place.path()).unwrap();
    assert!(new.exists() && !old.exists());
    assert!(others.iter().all(|other| other.exists()) && link.is_symlink());
}

#[test]
fn a_link_in_a_folders_place_is_refused() {
    for part in ["", "v3", "v3/tmp", "v3/entries", "v3/blobs"] {
        let place = tempfile::tempdir().unwrap();
        let (team, elsewhere) = (place.path().join("team"), place.path().join("elsewhere"));
        for folder in ["", "v3/tmp", "tmp"] {
            fs::create_dir_all(elsewhere.join(folder)).unwrap();
        }
        // Wherever `tmp` would lead.
        let swept = ["", "tmp", "v3/tmp"].map(|at| elsewhere.join(at).join(temporary("old")));
        swept.iter().for_each(|file| old_file(file));
        let link = team.join(part);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&elsewhere, if part.is_empty() { &team } else { &link }).unwrap();
        let told = write(&team).unwrap_err();
        assert_eq!(told.fault, RemoteFault::Refused, "{part}");
        assert!(told.message.contains("no links"), "{part}: {told}");
        if part != "v3/tmp" {
            assert_eq!(read(&team).unwrap_err().fault, RemoteFault::Refused, "{part}");
        }
        assert!(swept.iter().all(|file| file.exists()), "{part}");
    }
}
