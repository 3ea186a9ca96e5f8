//! Small packages, real folders, and ways to make a publish fail: content that cannot be had, and
//! a kill before any single step.

mod failures;
mod rules;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use std::io::Read;

use super::*;
use crate::package::composition::{ComposeError, ContentId, Part};

/// A folder to publish into, in memory where that can be had: these tests sync thousands of times.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

thread_local! {
    /// Steps until the publish on this thread is stopped as kill -9 would: at once, with no
    /// cleaning up.
    static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

struct Killed;

pub(super) fn crash_point() {
    match STEPS_LEFT.get() {
        Some(0) => resume_unwind(Box::new(Killed)),
        left => STEPS_LEFT.set(left.map(|steps| steps - 1)),
    }
}

/// Publishes, but is killed before step `steps`. `None` then; else what the publish returned.
fn killed_after(steps: u32, folder: &Path, package: &Package) -> Option<Result<PublishReport, PublishError>> {
    STEPS_LEFT.set(Some(steps));
    let result = catch_unwind(AssertUnwindSafe(|| package.publish(folder)));
    STEPS_LEFT.set(None);
    match result {
        Ok(result) => Some(result),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// A package whose playlists are lists of paths from the top, one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    files: BTreeMap<String, (Vec<u8>, Role)>,
}

impl Package {
    /// Rungs by name, each with the contents of its segments. A segment's name follows from its
    /// content; the initialization segment has a fixed one.
    fn new(rungs: &[(&str, &[u32])]) -> Package {
        let mut package = Package::default();
        let mut entry = String::new();
        for (rung, segments) in rungs {
            let mut playlist = format!("{rung}/init.mp4\n");
            package.add(&format!("{rung}/init.mp4"), rung.as_bytes().to_vec(), Role::Media);
            for content in *segments {
                let name = format!("{rung}/media/{content}.m4s");
                playlist += &format!("{name}\n");
                package.add(&name, content.to_string().repeat(50).into_bytes(), Role::Media);
            }
            let name = format!("{rung}/index.m3u8");
            entry += &format!("{name}\n");
            package.add(&name, playlist.into_bytes(), Role::Playlist);
        }
        package.add("master.m3u8", entry.into_bytes(), Role::Entry);
        package
    }

    fn add(&mut self, path: &str, content: Vec<u8>, role: Role) {
        self.files.insert(path.to_owned(), (content, role));
    }

    fn list(&self) -> FileList {
        let file = |(path, (content, role)): (&String, &(Vec<u8>, Role))| PublishFile {
            path: RelPath::new(path.as_str()).unwrap(),
            size: content.len() as u64,
            digest: blake3::hash(content),
            role: *role,
        };
        FileList::new(self.files.iter().map(file).collect()).unwrap()
    }

    fn publish(&self, folder: &Path) -> Result<PublishReport, PublishError> {
        self.publish_failing(folder, u32::MAX, Fault::Open)
    }

    /// Publishes, but the content of the `n`th file that is asked for cannot be had.
    fn publish_failing(&self, folder: &Path, n: u32, fault: Fault) -> Result<PublishReport, PublishError> {
        publish(folder, &self.list(), &mut Store { package: self, asked: 0, fails: n, fault })
    }

    fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.iter().map(|(path, (content, _))| (path.clone(), content.clone())).collect()
    }
}

/// Where a package's content lies: of each file the first half in its composition, the rest in a blob that
/// holds more than that.
struct Store<'a> {
    package: &'a Package,
    /// How many files have been asked for.
    asked: u32,
    /// The one that fails, counted from 0, and how.
    fails: u32,
    fault: Fault,
}

impl<'a> Store<'a> {
    fn of(package: &'a Package) -> Store<'a> {
        Store { package, asked: 0, fails: u32::MAX, fault: Fault::Open }
    }
}

impl Contents for Store<'_> {
    fn announce(&mut self, _: &[&PublishFile]) -> io::Result<()> {
        Ok(())
    }

    fn composition(&mut self, file: &PublishFile) -> io::Result<Composition> {
        let fails = self.asked == self.fails;
        self.asked += 1;
        let content = &self.package.files[file.path.as_str()].0;
        let middle = content.len() / 2;
        let mut inline = content[..middle].to_vec();
        match self.fault {
            Fault::Open if fails => return Err(io::Error::other("no such result")),
            Fault::Inline if fails => inline.push(1),
            _ => {}
        }
        let content = ContentId::of(content);
        let (offset, length) = (middle as u64, content.size - middle as u64);
        let parts = vec![Part::Inline(inline), Part::Range { blob: content, offset, length }];
        Ok(Composition { content, parts })
    }
}

impl Blobs for Store<'_> {
    fn open(&mut self, blob: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        let fails = self.asked == self.fails.saturating_add(1);
        let held = |content: &&Vec<u8>| blake3::hash(content) == blob.digest;
        let content = self.package.files.values().map(|(content, _)| content).find(held).unwrap();
        let flipped = || content.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
        Ok(Some(match self.fault {
            Fault::Lost if fails => return Ok(None),
            Fault::Read if fails => Box::new(content.get(..1).unwrap_or_default().chain(Broken)),
            Fault::Flipped if fails => Box::new(io::Cursor::new(flipped())),
            Fault::Short if fails => Box::new(content.get(1..).unwrap_or_default()),
            Fault::Endless if fails => Box::new(io::repeat(7)),
            _ => Box::new(&content[..]),
        }))
    }
}

/// How the content of a file cannot be had.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Open,
    Inline,
    Lost,
    Read,
    Flipped,
    Short,
    Endless,
}

const FAULTS: [Fault; 7] =
    [Fault::Open, Fault::Inline, Fault::Lost, Fault::Read, Fault::Flipped, Fault::Short, Fault::Endless];

/// For a publish that needs none.
struct Nothing;

impl Contents for Nothing {
    fn announce(&mut self, _: &[&PublishFile]) -> io::Result<()> {
        Ok(())
    }

    fn composition(&mut self, _: &PublishFile) -> io::Result<Composition> {
        Err(io::Error::other("nothing needs reading"))
    }
}

impl Blobs for Nothing {
    fn open(&mut self, _: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        Err(io::Error::other("nothing needs reading"))
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the network went away"))
    }
}

/// All files below `folder` but rivet's own.
fn visible(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() && !name.starts_with(OWN_PREFIX) {
                walk(&entry.path(), &format!("{prefix}{name}/"), files);
            } else if !name.starts_with(OWN_PREFIX) {
                files.insert(format!("{prefix}{name}"), fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    if folder.exists() {
        walk(folder, "", &mut files);
    }
    files
}

/// What a viewer relies on: whatever a playlist that is there names is there too, whole.
fn assert_playable(folder: &Path) {
    let files = visible(folder);
    for (path, content) in files.iter().filter(|(path, _)| path.ends_with(".m3u8")) {
        for named in std::str::from_utf8(content).unwrap().lines() {
            let found = files.get(named);
            assert!(found.is_some(), "{path} names {named}, which is not there");
            if let Some(name) = named.rsplit('/').next().and_then(|n| n.strip_suffix(".m4s")) {
                assert_eq!(found.unwrap(), name.repeat(50).as_bytes(), "{named}");
            }
        }
    }
}

fn own_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(OWN_PREFIX)).collect();
    names.sort();
    names
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}
