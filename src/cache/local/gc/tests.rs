//! Cleanings of small folders, in this process: what they may not take, and that they look again.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::cache::{Cache, CacheEntry, Digest, EntryKey, EntryResult, Pin, PinnedTitle};

const ALL: GcRules = GcRules { max_bytes: Some(0), max_age: None, dry_run: false };

struct Folder {
    dir: tempfile::TempDir,
    cache: LocalCache,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        Folder { dir, cache }
    }

    /// Files an entry of that name, with a blob of its own, made from others.
    fn file(&self, name: &str, inputs: &[&str]) {
        let blob = self.cache.put_blob(name.as_bytes()).unwrap();
        let result = EntryResult { blobs: vec![blob], ..EntryResult::default() };
        let inputs = inputs.iter().map(|input| key(input)).collect();
        self.cache.put_entry(&key(name), &CacheEntry { result, inputs, ..CacheEntry::default() }).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cache.path_of("entries", &key(name).0)
    }

    /// Lets all look as if it had last been used ten days ago.
    fn age(&self) {
        let then = SystemTime::now() - Duration::from_secs(10 * 24 * 60 * 60);
        for part in ["entries", "blobs"].map(|part| self.dir.path().join("v3").join(part)) {
            let files = shards::each(|shard| shards::files(&part, shard, &mut |_| {})).unwrap();
            for file in files.into_iter().flatten() {
                File::open(file.path).unwrap().set_modified(then).unwrap();
            }
        }
    }

    fn pin(&self, title: &str) -> u64 {
        let titles = vec![PinnedTitle { name: title.to_owned(), key: key(title) }];
        let pin = Pin { name: title.to_owned(), spec: "ladder.toml".into(), pinned_at: 1, titles };
        self.cache.pin(&pin).unwrap()
    }

    fn collect(&self) -> Collected {
        self.cache.collect(&ALL, &AtomicBool::new(false), &|_| {}).unwrap()
    }

    /// Which of these are there, with their blobs.
    fn there(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.cache.find_entry(&key(name)).unwrap().is_some()).collect()
    }
}

fn key(name: &str) -> EntryKey {
    EntryKey(Digest::of(name.as_bytes()))
}

#[test]
fn a_pinned_entry_that_is_lost_lets_go_of_nothing_but_itself() {
    for lose in [|path: PathBuf| fs::write(path, "damaged").unwrap(), |path| fs::remove_file(path).unwrap()] {
        let folder = Folder::new();
        folder.file("source", &[]);
        folder.file("encode", &["source"]);
        folder.file("pack", &["encode"]);
        folder.file("title", &["pack", "elsewhere"]);
        folder.file("other", &["source"]);
        assert_eq!(folder.pin("title"), 1, "one is not here");
        folder.age();
        lose(folder.path("title"));
        lose(folder.path("encode"));
        folder.collect();
        let all = ["source", "encode", "pack", "title", "other"];
        assert_eq!(folder.there(&all), ["source", "pack"]);
        // What comes again is pinned as it was.
        folder.file("encode", &["source"]);
        folder.file("elsewhere", &[]);
        folder.age();
        folder.collect();
        assert_eq!(folder.there(&["elsewhere", "encode"]), ["elsewhere", "encode"]);
        assert!(folder.cache.unpin("title").unwrap());
        folder.collect();
        assert!(folder.there(&all).is_empty());
    }
}

#[test]
fn what_a_running_build_uses_or_writes_stays() {
    let folder = Folder::new();
    folder.file("encode", &[]);
    folder.file("found", &["encode"]);
    folder.file("old", &[]);
    folder.age();
    let build = folder.cache.announce().unwrap();
    assert!(folder.cache.find_entry(&key("found")).unwrap().is_some());
    folder.file("made", &[]);
    let all = ["encode", "found", "made", "old"];
    let report = folder.collect();
    assert_eq!((report.running_builds, report.in_use.files), (1, 6), "{report:?}");
    assert_eq!(folder.there(&all), all[..3]);
    drop(build);
    assert_eq!(folder.collect().removed.total().files, 6);
    assert!(folder.there(&all).is_empty());
}

#[test]
fn a_file_is_looked_at_again_before_it_goes() {
    let folder = Folder::new();
    folder.file("entry", &[]);
    folder.age();
    let path = folder.path("entry");
    let seen = nanos(fs::symlink_metadata(&path).unwrap().modified().unwrap());
    assert!(Cleaning::is_untouched(&path, seen));
    used::touch(&path);
    assert!(!Cleaning::is_untouched(&path, seen), "used meanwhile");
    fs::remove_file(&path).unwrap();
    assert!(!Cleaning::is_untouched(&path, seen), "gone");

    // Damaged when it was read, and mended by a build before its turn comes.
    fs::write(&path, "damaged").unwrap();
    folder.age();
    let go = AtomicBool::new(false);
    let marks = Marks::read(&folder.cache.root, seen, &go, &|_, _| {}).unwrap().unwrap();
    assert_eq!(marks.damaged.len(), 1);
    folder.file("entry", &[]);
    let mut cleaning = Cleaning {
        cache: &folder.cache,
        dry_run: false,
        cancelled: &go,
        progress: &|_| {},
        gone: Tally::default(),
    };
    let mut report = Collected::default();
    cleaning.damaged(&marks, &mut report).unwrap();
    assert_eq!((report.damaged, report.kept.entries.files), (0, 1));
    assert_eq!(folder.there(&["entry"]), ["entry"]);
}

#[test]
fn nothing_goes_when_it_is_cancelled() {
    let folder = Folder::new();
    folder.file("entry", &[]);
    folder.file("damaged", &[]);
    fs::write(folder.path("damaged"), "damaged").unwrap();
    folder.age();
    let report = folder.cache.collect(&ALL, &AtomicBool::new(true), &|_| {}).unwrap();
    assert!(report.interrupted);
    assert_eq!(report.removed, Parts::default());
    assert!(folder.path("damaged").exists() && folder.path("entry").exists());
}

#[test]
fn what_others_have_put_there_stays_and_is_in_nobodys_way() {
    let folder = Folder::new();
    folder.file("entry", &[]);
    let foreign = ["log/notes.json", "log/a-b.json", "builds/notes.txt", "pins/notes.txt", "blobs/notes.txt"];
    let foreign = foreign.map(|name| folder.dir.path().join("v3").join(name));
    let then = SystemTime::now() - Duration::from_secs(1000 * 24 * 60 * 60);
    for path in &foreign {
        fs::write(path, "mine").unwrap();
        File::open(path).unwrap().set_modified(then).unwrap();
    }
    symlink(&foreign[0], folder.dir.path().join("v3/pins/link")).unwrap();
    let report = folder.collect();
    assert_eq!((report.running_builds, report.removed.total().files), (0, 2), "{report:?}");
    assert!(foreign.iter().all(|path| path.exists()));
}

/// In a folder that a group shares anybody may have put it there.
#[test]
fn what_is_no_file_is_not_taken_for_the_lock() {
    let Folder { dir, cache } = Folder::new();
    let lock = dir.path().join("v3").join(GC_LOCK);
    let theirs = dir.path().join("theirs");
    let collect = || cache.collect(&GcRules::default(), &AtomicBool::new(false), &|_| {});
    symlink(&theirs, &lock).unwrap();
    assert!(matches!(collect(), Err(CacheError::Io { .. })));
    assert!(!theirs.exists());
    fs::remove_file(&lock).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(collect(), Err(CacheError::Io { .. })));
    fs::remove_file(&lock).unwrap();
    collect().unwrap();
}
