//! What may happen to the cache folder: power loss, a full disk, missing permissions, clocks that
//! are set back, and things that others put there. A build ends with the right bytes or says what
//! is wrong, and nothing outside the folder is touched.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use common::{BUNNY_5S, Build, Project, TINY_RUNG, ladder};
use proptest::prelude::*;
use rivet::testing::cache::{Cache, CacheEntry, Digest, EntryKey, EntryResult, Lease, LocalCache};

const FOLDER: &str = "cache/rivet/v3";

fn project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}[[audio]]\nname = \"stereo\"\n")));
    project
}

/// All of the cache that is no folder; none of it is opened.
fn cached(project: &Project) -> Vec<PathBuf> {
    let files = tree(&project.path(FOLDER)).into_iter().filter(|(_, (is_folder, ..))| !is_folder);
    files.map(|(path, _)| path).collect()
}

/// A file of the cache that is a blob, and as large as any.
fn largest_blob(project: &Project) -> PathBuf {
    let blobs =
        cached(project).into_iter().filter(|path| path.starts_with(project.path(FOLDER).join("blobs")));
    blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn some_entry(project: &Project) -> PathBuf {
    let entries = project.path(FOLDER).join("entries");
    cached(project).into_iter().find(|path| path.starts_with(&entries)).unwrap()
}

/// Builds again, the output folder gone: all that was published is looked for in the cache.
fn rebuild(project: &Project) -> Build {
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert_eq!(project.try_build(&[]).ran_at_all(), 0, "it is whole again");
    build
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The name is not there.
    Gone,
    /// It has no bytes.
    Empty,
    /// Nor all of them.
    Cut,
    /// As many as it should have, all zero.
    Zeros,
}

/// What a file system may have kept of a build when the power went: any part of what it had not been
/// told to sync.
#[test]
fn power_loss_costs_work_and_no_bytes() {
    let project = project();
    project.build();
    let before = project.output();
    let losses = prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            prop::sample::select(vec![Loss::Gone, Loss::Empty, Loss::Cut, Loss::Zeros]),
        ),
        1..60,
    );
    let config =
        ProptestConfig { cases: 6, max_shrink_iters: 0, failure_persistence: None, ..Default::default() };
    proptest!(config, |(losses in losses)| {
        let files = cached(&project);
        for (which, loss) in losses {
            let path = which.get(&files);
            let Ok(length) = fs::metadata(path).map(|meta| meta.len()) else { continue };
            match loss {
                Loss::Gone => fs::remove_file(path).unwrap(),
                Loss::Empty => fs::write(path, "").unwrap(),
                Loss::Cut => File::options().write(true).open(path).unwrap().set_len(length / 2).unwrap(),
                Loss::Zeros => fs::write(path, vec![0; length as usize]).unwrap(),
            }
        }
        rebuild(&project);
        prop_assert_eq!(project.output(), before.clone());
    });
}

/// Runs a command in a shell that first limits it, with what a test says.
fn under(limit: &str, project: &Project, arguments: &[&str]) -> Output {
    let rivet = project.rivet();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}\nexec \"$0\" \"$@\"")]).arg(rivet.get_program()).args(arguments);
    shell.current_dir(project.root());
    for (name, value) in rivet.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs rivet on a cache that lies on a disk of so many bytes, in a mount of its own; `None` where
/// this machine lets nobody mount.
fn on_small_disk(project: &Project, script: &str) -> Option<Output> {
    let mount = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.current_dir(project.root()).env("RIVET", project.rivet().get_program());
        command.env_remove("RIVET_CACHE_DIR").env("XDG_CACHE_HOME", project.path("cache"));
        command.output().unwrap()
    };
    mount("mount -t tmpfs -o size=1m none cache").status.success().then(|| mount(script))
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
    let alone = project();
    alone.build();
    let project = project();
    fs::create_dir_all(project.path("cache")).unwrap();
    // A third of the results fit; then there is room, and the build goes on in the same folder.
    let script = "mount -t tmpfs -o size=192k,nr_inodes=10000 none cache && \
                  \"$RIVET\" build; echo status $? && test -e cache/rivet/v3/tmp && \
                  find cache/rivet/v3/tmp -type f -printf 'left %p\\n' && mount -o remount,size=64m cache && \
                  \"$RIVET\" build --events events.jsonl; echo status $?";
    let Some(output) = on_small_disk(&project, script) else {
        eprintln!("skipped: nothing can be mounted here; a limit on file sizes stands for a full disk");
        return;
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let statuses: Vec<&str> = told.lines().filter(|line| line.starts_with("status")).collect();
    assert_eq!(statuses, ["status 1", "status 0"], "{told}{}", text(&output));
    assert!(text(&output).contains("the disk that holds the cache is full"), "{}", text(&output));
    assert!(!told.contains("left "), "nothing half written is left: {told}");
    assert_eq!(project.output(), alone.output());
    let last = Build::new(output, &project.path("events.jsonl"));
    let all = |what: &str| {
        ["decode", "audio", "encode", "mux"].map(|kind| last.count(kind, what)).iter().sum::<u64>()
    };
    assert!(all("cached") > 0 && all("ran") > 0, "it goes on where it was: {}", last.summary());
}

/// As on a file system that has no room for a file, without one.
#[test]
fn a_file_that_cannot_grow_is_told() {
    let project = project();
    // Blocks of 512 bytes; a program is not to die of it.
    let output = under("trap '' XFSZ; ulimit -f 8", &project, &["build", "--in-process"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("ulimit -f"), "{}", text(&output));
    let tmp = common::files_under(&project.path(FOLDER).join("tmp"));
    assert!(tmp.is_empty(), "nothing half written is left: {:?}", tmp.keys());
    let alone = self::project();
    alone.build();
    project.build();
    assert_eq!(project.output(), alone.output());
}

fn as_anybody(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.rivet_as_anybody();
    command.args(arguments);
    command
}

/// Lets anybody read all of a project, and write only where it is told.
fn open_to_all(project: &Project, writable: &[&str]) {
    common::quietly("chmod", ["-R", "a+rX,go-w", project.root().to_str().unwrap()]);
    for name in writable {
        fs::create_dir_all(project.path(name)).unwrap();
        common::quietly("chmod", ["-R", "a+rwX", project.path(name).to_str().unwrap()]);
    }
}

#[test]
fn a_cache_that_cannot_be_written_to() {
    let project = project();
    project.build();
    let mut build = as_anybody(&project, &["build"]);
    open_to_all(&project, &["out"]);
    if !rustix::process::geteuid().is_root() {
        common::quietly("chmod", ["-R", "a-w", project.path("cache").to_str().unwrap()]);
    }
    let before = tree(&project.path("cache"));
    let output = build.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("hint: the cache folder must be writable"), "{}", text(&output));
    assert!(output.stdout.is_empty(), "nothing ran");
    // What only looks goes on, also where the source has changed since.
    for (source, step) in [("", "tiny/1"), ("clip.mp4", "index")] {
        if !source.is_empty() {
            fs::write(
                project.path(source),
                [fs::read(project.path(source)).unwrap(), b"free".to_vec()].concat(),
            )
            .unwrap();
        }
        for arguments in [
            &["plan"][..],
            &["plan", "--json"],
            &["explain", "ladder.toml", step],
            &["cache", "stats"],
            &["log"],
            &["graph"],
        ] {
            let output = as_anybody(&project, arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{arguments:?} {}", text(&output));
            assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?} {}", text(&output));
        }
    }
    assert!(tree(&project.path("cache")) == before, "something was written");
    common::quietly("chmod", ["-R", "u+w", project.path("cache").to_str().unwrap()]);
}

/// What only looks makes nothing.
#[test]
fn looking_makes_no_folder() {
    let project = project();
    for arguments in [&["plan"][..], &["cache", "stats"], &["log"]] {
        let output = project.rivet().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {}", text(&output));
    }
    assert!(!project.path("cache").exists());
}

#[test]
fn what_may_not_be_read_is_made_again() {
    let project = project();
    project.build();
    let before = project.output();
    fs::remove_dir_all(project.path("out")).unwrap();
    open_to_all(&project, &["cache", "out"]);
    let mut build = as_anybody(&project, &["build"]);
    let blob = largest_blob(&project);
    let entries = project.path(FOLDER).join("entries");
    for path in cached(&project).into_iter().filter(|path| *path == blob || path.starts_with(&entries)) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = build.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("Permission denied"), "it is told: {}", text(&output));
    assert_eq!(project.output(), before);
    let again = as_anybody(&project, &["plan", "--exit-code"]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "all has been replaced: {}", text(&again));
    assert!(again.stderr.is_empty(), "{}", text(&again));
}

/// Everything under a folder by name, with what it is, how long, and when it was changed.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (bool, u64, SystemTime)> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            }
            tree.insert(entry.path(), (meta.is_dir(), meta.len(), meta.modified().unwrap()));
        }
    }
    tree
}

/// Links into a folder that is not the cache's, in the place of files and of folders.
#[test]
fn links_lead_nowhere() {
    let project = project();
    project.build();
    let before = project.output();
    let victim = project.path("victim");
    for part in ["entries", "blobs", "stats", "log", "tmp"] {
        for path in fs::read_dir(project.path(FOLDER).join(part)).unwrap().map(|entry| entry.unwrap().path())
        {
            let name = path.file_name().unwrap();
            // Folders become links to folders with files of the same names.
            let there = victim.join(part).join(name);
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            if path.is_dir() {
                fs::create_dir(&there).unwrap();
                for file in fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()) {
                    fs::write(there.join(file.file_name().unwrap()), "theirs").unwrap();
                }
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::write(&there, "theirs").unwrap();
                fs::remove_file(&path).unwrap();
            }
            symlink(&there, &path).unwrap();
        }
    }
    symlink(&victim, project.path(FOLDER).join("tmp/link")).unwrap();
    let theirs = tree(&victim);
    assert!(theirs.len() > 20);
    rebuild(&project);
    assert_eq!(project.output(), before);
    // Files that are links, with links of folders out of the way.
    for path in cached(&project) {
        if fs::symlink_metadata(&path).unwrap().is_file()
            && !path.starts_with(project.path(FOLDER).join("log"))
        {
            let there = victim.join("blobs").read_dir().unwrap().next().unwrap().unwrap().path();
            let there = there.read_dir().unwrap().next().unwrap().unwrap().path();
            fs::remove_file(&path).unwrap();
            symlink(there, &path).unwrap();
        }
    }
    rebuild(&project);
    assert_eq!(project.output(), before);
    assert!(tree(&victim) == theirs, "something was written, replaced or removed there");
}

/// A part of the layout itself is no place for a link: what would be written goes somewhere else.
#[test]
fn a_part_that_is_a_link_is_refused() {
    let project = project();
    project.build();
    let there = project.path("elsewhere");
    fs::rename(project.path(FOLDER).join("blobs"), &there).unwrap();
    symlink(&there, project.path(FOLDER).join("blobs")).unwrap();
    for arguments in [&["build"][..], &["plan"]] {
        let output = project.rivet().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("link the whole folder"), "{}", text(&output));
    }
    // The whole folder may be one.
    fs::remove_file(project.path(FOLDER).join("blobs")).unwrap();
    fs::rename(&there, project.path(FOLDER).join("blobs")).unwrap();
    fs::rename(project.path("cache/rivet"), &there).unwrap();
    symlink(&there, project.path("cache/rivet")).unwrap();
    assert_eq!(project.build().ran_at_all(), 0);
}

/// Puts something in the place of a file.
type Plant = fn(&Path);

/// What would be waited for, or read for ever.
#[test]
fn pipes_folders_and_endless_files_are_misses() {
    let project = project();
    project.build();
    let before = project.output();
    let plant: [(&str, Plant); 4] = [
        ("a pipe", |path| {
            common::quietly("mkfifo", [path]);
        }),
        ("a folder", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "text").unwrap();
        }),
        ("an endless file", |path| {
            File::create(path).unwrap().set_len(1 << 46).unwrap_or_else(|_| {
                File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
            })
        }),
        ("a socket", |path| {
            std::os::unix::net::UnixListener::bind(short_name()).unwrap();
            fs::rename(short_name(), path).unwrap();
        }),
    ];
    for (what, plant) in plant {
        for path in [largest_blob(&project), some_entry(&project)] {
            fs::remove_file(&path).unwrap();
            plant(&path);
        }
        for part in ["stats", "log"] {
            for path in
                cached(&project).into_iter().filter(|path| path.starts_with(project.path(FOLDER).join(part)))
            {
                fs::remove_file(&path).unwrap();
                plant(&path);
            }
        }
        rebuild(&project);
        assert_eq!(project.output(), before, "{what}");
        let log = project.rivet().arg("log").output().unwrap();
        assert!(log.status.success(), "{}", text(&log));
        for path in
            cached(&project).into_iter().filter(|path| path.starts_with(project.path(FOLDER).join("log")))
        {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A name that is short enough for a socket's.
fn short_name() -> PathBuf {
    std::env::temp_dir().join(format!("rivet-{}.socket", std::process::id()))
}

/// Something in the place of the file of leases costs the leases, and no build.
#[test]
fn a_build_goes_on_without_leases() {
    let project = project();
    fs::create_dir_all(project.path(FOLDER).join("leases")).unwrap();
    let build = project.build();
    assert_eq!(build.stderr.matches("no locks on").count(), 1, "{}", build.stderr);
    assert_eq!(project.build().ran_at_all(), 0);
}

fn stamp(path: &Path, at: SystemTime) {
    File::open(path).unwrap().set_modified(at).unwrap();
}

/// Stamps of any age, from the past and from the future, as clocks are set back and forth.
#[test]
fn clocks_that_are_wrong() {
    let project = project();
    project.build();
    let now = SystemTime::now();
    let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 24 * 3600));
    for path in cached(&project) {
        stamp(&path, now + 30 * year);
    }
    assert_eq!(rebuild(&project).ran("encode"), 0, "no stamp of the cache's is believed");

    let tmp = project.path(FOLDER).join("tmp");
    let folders =
        || -> BTreeSet<PathBuf> { fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let before = folders();
    let cache = LocalCache::open(&project.path("cache/rivet")).unwrap();
    let running = folders().difference(&before).next().unwrap().clone();
    let left = |name: &str, at: SystemTime| {
        let path = tmp.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("rivet-half"), "half").unwrap();
        stamp(&path, at);
        path
    };
    let file = tmp.join("rivet-abcdef");
    fs::write(&file, "half").unwrap();
    stamp(&file, now + 3 * year);
    let old = [
        left("0123456789abcdef", now - 2 * hour),
        left("0123456789abcdee", now + 2 * hour),
        left("rivet-check-abc", now - year),
        left("rivet-check-abd", now + year),
        file,
    ];
    let young = [left("0123456789abcdea", now), left("rivet-check-abe", now - 2 * hour)];
    for stamp_of_running in [now - year, now + year] {
        stamp(&running, stamp_of_running);
        drop(LocalCache::open(&project.path("cache/rivet")).unwrap());
        assert!(running.exists(), "a running build's is left alone");
    }
    assert!(old.iter().all(|path| !path.exists()), "{:?}", fs::read_dir(&tmp).unwrap().collect::<Vec<_>>());
    assert!(young.iter().all(|path| path.exists()), "those who wrote them may be on another machine");
    drop(cache);
    assert!(!running.exists());
}

/// The record of the last build is the last, whatever clocks say, and is not the first to go.
#[test]
fn the_log_is_in_order_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(folder.path()).unwrap();
    let epoch = SystemTime::UNIX_EPOCH;
    let times =
        [1_700_000_000, 4_000_000_000, 1_700_000_001, 0, 253_402_300_799, 5, u64::from(u32::MAX) << 8];
    let names: Vec<String> = times
        .iter()
        .map(|&seconds| {
            cache.append_log(epoch + Duration::from_secs(seconds), &seconds.to_le_bytes()).unwrap()
        })
        .collect();
    let mut sorted = names.clone();
    sorted.sort();
    // The years end at 9999; within their last second order is lost.
    assert_eq!(sorted[..4], names[..4]);
    assert_eq!(cache.log_names().unwrap(), sorted);

    let folder = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(folder.path()).unwrap();
    for number in 0..1000u32 {
        let name = format!("21000101T000000.{:03}Z-{number:08x}.json", number % 1000);
        fs::write(folder.path().join("v3/log").join(name), "{}").unwrap();
    }
    let name = cache.append_log(epoch + Duration::from_secs(1_700_000_000), b"{}").unwrap();
    let names = cache.log_names().unwrap();
    assert_eq!((names.len(), names.last()), (1000, Some(&name)));
}

/// The folder goes while a build has it open.
#[test]
fn a_cache_that_is_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(folder.path()).unwrap();
    cache.put_blob(b"before").unwrap();
    fs::remove_dir_all(folder.path().join("v3")).unwrap();
    let blob = cache.put_blob(b"after").unwrap();
    let key = EntryKey(Digest::of(b"key"));
    let result = EntryResult { facts: Vec::new(), blobs: vec![blob] };
    cache.put_entry(&key, &CacheEntry { result, ..CacheEntry::default() }).unwrap();
    assert!(cache.find_entry(&key).unwrap().is_some());
    assert_eq!(cache.blob(&blob).unwrap().unwrap(), b"after");
}

/// Files are for all who share the folder, as far as the user's mask allows.
#[test]
fn what_is_written_can_be_read_by_others() {
    let project = project();
    let output = under("umask 022", &project, &["build"]);
    assert!(output.status.success(), "{}", text(&output));
    for path in cached(&project) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{}", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// A lease has one holder among all who have the folder open, and whoever asks while there is none
    /// gets it. That somebody goes ends their leases, and nobody else's.
    #[test]
    fn leases_have_one_holder(steps in prop::collection::vec((0usize..4, 0u8..6, any::<bool>()), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let open = || Some(LocalCache::open(folder.path()).unwrap());
        let mut caches: Vec<Option<LocalCache>> = (0..4).map(|_| open()).collect();
        let mut held: HashMap<u8, (usize, Lease)> = HashMap::new();
        for (who, what, takes) in steps {
            if !takes && what == 5 {
                held.retain(|_, (holder, _)| *holder != who);
                caches[who] = None;
                caches[who] = open();
            } else if takes {
                let lease = caches[who].as_ref().unwrap().lease(&EntryKey(Digest::of(&[what])));
                prop_assert_eq!(lease.is_some(), !held.contains_key(&what));
                if let Some(lease) = lease {
                    held.insert(what, (who, lease));
                }
            } else if held.get(&what).is_some_and(|(holder, _)| *holder == who) {
                held.remove(&what);
            }
        }
    }
}
