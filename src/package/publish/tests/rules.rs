//! What a publish does and refuses to do when nothing fails.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn a_new_folder_gets_the_files_and_a_second_publish_touches_none() {
    let root = scratch();
    let folder = root.path().join("dist/film");
    let package = Package::new(&[("360p", &[1, 2]), ("720p", &[3, 4])]);
    assert!(!is_current(&folder, package.list().digest()));
    let report = package.publish(&folder).unwrap();
    assert_eq!(report, PublishReport { written: 9, kept: 0, removed: 0 });
    assert_eq!(visible(&folder), package.visible());
    assert_eq!(own_files(&folder), [".rivet-published.json", ".rivet.lock"]);
    assert!(is_current(&folder, package.list().digest()));

    let record = inode(&folder.join(RECORD_NAME));
    let report = publish(&folder, &package.list(), &mut Nothing).unwrap();
    assert_eq!(report, PublishReport { written: 0, kept: 9, removed: 0 });
    assert_eq!(inode(&folder.join(RECORD_NAME)), record);
}

#[test]
fn only_what_changed_is_written_and_what_is_stale_goes() {
    let folder = scratch();
    let folder = folder.path();
    Package::new(&[("360p", &[1, 2]), ("720p", &[3, 4])]).publish(folder).unwrap();
    fs::write(folder.join("poster.jpg"), "not ours").unwrap();
    let kept = ["360p/init.mp4", "360p/media/1.m4s"].map(|path| folder.join(path));
    let inodes = kept.each_ref().map(|path| inode(path));

    let next = Package::new(&[("360p", &[1, 5])]);
    let report = next.publish(folder).unwrap();
    // New: a segment and two playlists. Gone: a segment, and a rung's four files.
    assert_eq!(report, PublishReport { written: 3, kept: 2, removed: 5 });
    let mut expected = next.visible();
    expected.insert("poster.jpg".to_owned(), b"not ours".to_vec());
    assert_eq!(visible(folder), expected);
    assert!(!folder.join("720p").exists(), "an empty folder is left");
    assert_eq!(kept.each_ref().map(|path| inode(path)), inodes);
    assert!(is_current(folder, next.list().digest()));
}

/// Who lost the record, as by a copy without hidden files, goes on where it was.
#[test]
fn a_lost_record_is_written_again() {
    let folder = scratch();
    let folder = folder.path();
    let package = Package::new(&[("720p", &[1, 2])]);
    package.publish(folder).unwrap();
    let files = visible(folder);
    fs::remove_file(folder.join(RECORD_NAME)).unwrap();
    let report = package.publish(folder).unwrap();
    assert_eq!((report.written, report.removed), (0, 0));
    assert!(is_current(folder, package.list().digest()));
    assert_eq!(visible(folder), files);

    // A part of it will do, but nothing besides, and no other content.
    fs::remove_file(folder.join(RECORD_NAME)).unwrap();
    let one = folder.join(files.keys().next().unwrap());
    fs::remove_file(&one).unwrap();
    assert_eq!(package.publish(folder).unwrap().written, 1);
    for (path, content) in [(folder.join("720p/notes.txt"), "mine"), (one, "another's")] {
        fs::remove_file(folder.join(RECORD_NAME)).unwrap();
        fs::write(&path, content).unwrap();
        let error = package.publish(folder).unwrap_err();
        assert!(matches!(error, PublishError::ForeignFolder { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        package.publish(folder).unwrap();
    }
}

#[test]
fn a_folder_that_is_not_empty_loses_nothing_foreign() {
    let folder = scratch();
    let folder = folder.path();
    fs::create_dir(folder.join("720p")).unwrap();
    fs::write(folder.join("720p/notes.txt"), "mine").unwrap();
    let package = Package::new(&[("720p", &[1])]);
    let error = package.publish(folder).unwrap_err();
    assert!(matches!(error, PublishError::ForeignFolder { .. }), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(own_files(folder), [] as [&str; 0]);
    assert_eq!(visible(folder).len(), 1);
}

#[test]
fn a_foreign_file_in_the_way_stops_all() {
    let folder = scratch();
    let folder = folder.path();
    let old = Package::new(&[("360p", &[1])]);
    old.publish(folder).unwrap();
    for (path, is_folder) in [("720p", false), ("720p/media/3.m4s", false), ("720p/init.mp4", true)] {
        let blocked = folder.join(path);
        fs::create_dir_all(blocked.parent().unwrap()).unwrap();
        if is_folder {
            fs::create_dir(&blocked).unwrap();
        } else {
            fs::write(&blocked, "mine").unwrap();
        }
        let before = visible(folder);
        let error = Package::new(&[("360p", &[2]), ("720p", &[3])]).publish(folder).unwrap_err();
        assert!(matches!(&error, PublishError::ForeignFile { path } if *path == blocked), "{error}");
        assert_eq!(visible(folder), before);
        assert!(is_current(folder, old.list().digest()));
        let _ = fs::remove_file(folder.join("720p"));
        let _ = fs::remove_dir_all(folder.join("720p"));
    }
}

#[test]
fn links_lead_nowhere() {
    let root = scratch();
    let (folder, outside) = (root.path().join("dist"), root.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    let old = Package::new(&[("360p", &[1])]);
    old.publish(&folder).unwrap();
    let refused = |package: &Package| {
        let error = package.publish(&folder).unwrap_err();
        assert!(matches!(error, PublishError::SymbolicLink { .. }), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    };
    // On the way to a new file.
    symlink(&outside, folder.join("720p")).unwrap();
    refused(&Package::new(&[("360p", &[1]), ("720p", &[1])]));
    fs::remove_file(folder.join("720p")).unwrap();
    // In place of a new file, of one to keep, and of a stale one.
    let segment = folder.join("360p/media/1.m4s");
    fs::remove_file(&segment).unwrap();
    symlink(outside.join("x"), &segment).unwrap();
    refused(&old);
    refused(&Package::new(&[("360p", &[2])]));
    fs::remove_file(&segment).unwrap();
    // In place of what rivet keeps for itself.
    for name in [STAGE_NAME, LOCK_NAME] {
        let path = folder.join(name);
        let _ = fs::remove_file(&path);
        symlink(outside.join("x"), &path).unwrap();
        refused(&old);
        fs::remove_file(&path).unwrap();
    }
    // The output folder itself may be one.
    let link = root.path().join("link");
    symlink(&folder, &link).unwrap();
    old.publish(&link).unwrap();
    assert_eq!(visible(&folder), old.visible());
}

#[test]
fn what_was_changed_is_repaired_and_what_was_copied_is_kept() {
    let folder = scratch();
    let folder = folder.path();
    let package = Package::new(&[("360p", &[1, 2])]);
    package.publish(folder).unwrap();
    let segment = folder.join("360p/media/1.m4s");
    for damage in [&b"shorter"[..], &b"2".repeat(50)] {
        fs::write(&segment, damage).unwrap();
        // Well past any file system's clock tick, as a change by a person would be.
        let changed = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        File::options().write(true).open(&segment).unwrap().set_modified(changed).unwrap();
        assert!(!is_current(folder, package.list().digest()));
        let report = package.publish(folder).unwrap();
        assert_eq!(report, PublishReport { written: 1, kept: 4, removed: 0 });
        assert_eq!(visible(folder), package.visible());
    }
    fs::remove_file(&segment).unwrap();
    assert!(!is_current(folder, package.list().digest()));
    assert_eq!(package.publish(folder).unwrap().written, 1);

    // A copy has other inodes and times, but the content is right: only the record is new.
    let moved = folder.join("360p/media/copy");
    fs::copy(&segment, &moved).unwrap();
    fs::rename(&moved, &segment).unwrap();
    assert!(!is_current(folder, package.list().digest()));
    let copied = inode(&segment);
    assert_eq!(package.publish(folder).unwrap().written, 0);
    assert_eq!(inode(&segment), copied);
    assert!(is_current(folder, package.list().digest()));
}

#[test]
fn publishes_into_one_folder_take_turns() {
    let folder = scratch();
    let packages: Vec<_> =
        (0..4u32).map(|n| Package::new(&[("360p", &[n, n + 1, n + 2][..]), ("720p", &[n][..])])).collect();
    std::thread::scope(|scope| {
        for package in &packages {
            scope.spawn(|| (0..3).for_each(|_| assert!(package.publish(folder.path()).is_ok())));
        }
    });
    let files = visible(folder.path());
    assert!(packages.iter().any(|package| package.visible() == files));
    assert_playable(folder.path());
}

#[test]
fn lists_that_are_no_folder_are_refused() {
    let folder = scratch();
    let list = |paths: &[&str]| {
        let file = |path: &&str| PublishFile {
            path: RelPath::new(*path).unwrap(),
            size: 0,
            digest: blake3::hash(b""),
            role: Role::Media,
        };
        let files: Vec<_> = paths.iter().map(file).collect();
        publish(folder.path(), &FileList::new(files)?, &mut Empty)
    };
    for paths in
        [&["a", "a"][..], &["a", "a/b"], &["a/b/c", "a"], &[".rivet-published.json"], &[".rivet-tmp/x"]]
    {
        assert!(matches!(list(paths), Err(PublishError::BadList { .. })), "{paths:?}");
    }
    assert_eq!(own_files(folder.path()), [] as [&str; 0]);
    assert_eq!(list(&["a/b", "a.b", "ab"]).unwrap().written, 3);
}

/// Of every file that it has no bytes.
struct Empty;

impl Contents for Empty {
    fn announce(&mut self, _: &[&PublishFile]) -> io::Result<()> {
        Ok(())
    }

    fn composition(&mut self, _: &PublishFile) -> io::Result<Composition> {
        Ok(Composition::inline(Vec::new()))
    }
}

impl Blobs for Empty {
    fn open(&mut self, _: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(None)
    }
}

/// A record of a list, and of what has changed since.
fn record(version: u32, files: u64, list: &str, changes: &str) -> String {
    let header = format!(r#"{{"version":{version},"files":{files},"bytes":{},"list":null}}"#, list.len());
    format!("{header:191}\n{list}{changes}")
}

#[test]
fn records_that_lie_are_not_believed() {
    let root = scratch();
    let folder = root.path().join("dist");
    let victim = root.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let package = Package::new(&[("360p", &[1])]);
    let digest = blake3::hash(b"precious").to_hex();
    let file = |path: &str| format!("{{\"path\":\"{path}\",\"size\":8,\"blake3\":\"{digest}\"}}");
    let one = |path: &str| record(3, 1, &format!("{}\n", file(path)), "");
    let later = |change: &str| record(3, 0, "", &format!("{change}\n"));
    for bad in [
        one("../victim"),
        one("/victim"),
        one(&"a".repeat(100_000)),
        one("a").replace(digest.as_str(), "00"),
        one("a").replace("\"version\":3", "\"version\":2"),
        one("a").replace("\"files\":1", "\"files\":9"),
        one("a").trim_end().to_owned(),
        record(3, 2, &format!("{}\n{}\n", file("b"), file("a")), ""),
        record(3, 2, &format!("{}\n{}\n", file("a"), file("a")), ""),
        later(&format!("{{\"put\":{}}}", file("../victim"))),
        later("{\"gone\":\"/victim\"}"),
        later("{\"moved\":\"a\"}"),
        later(&format!("{{\"gone\":\"{}\"}}", "a".repeat(100_000))),
        "not JSON".to_owned(),
        String::new(),
    ] {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RECORD_NAME), &bad).unwrap();
        let error = package.publish(&folder).unwrap_err();
        assert!(matches!(error, PublishError::BadRecord { .. }), "{error}: {bad:.300}");
        assert!(error.hint().is_some());
        assert!(!is_current(&folder, package.list().digest()));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
    for good in [one("a"), later(&format!("{{\"put\":{}}}", file("a")))] {
        fs::write(folder.join(RECORD_NAME), &good).unwrap();
        fs::write(folder.join("a"), "precious").unwrap();
        assert_eq!(package.publish(&folder).unwrap().removed, 1);
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
    }
}

#[test]
fn a_small_change_is_appended_to_the_record_and_a_cut_line_never_was() {
    let root = scratch();
    let folder = &root.path().join("dist");
    let path = folder.join(RECORD_NAME);
    let segments: Vec<u32> = (0..20).collect();
    let old = Package::new(&[("360p", &segments[..19])]);
    let new = Package::new(&[("360p", &segments[1..])]);
    old.publish(folder).unwrap();
    let (first, before) = (inode(&path), fs::read(&path).unwrap());
    assert_eq!(new.publish(folder).unwrap(), PublishReport { written: 2, kept: 20, removed: 1 });
    let after = fs::read(&path).unwrap();
    assert_eq!(inode(&path), first);
    assert!(after.starts_with(&before) && is_current(folder, new.list().digest()));

    // The intent was synced before any file came; whatever a power cut takes of what follows,
    // the next publish knows every file.
    let intended = before.len() + after[before.len()..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for length in intended..after.len() {
        fs::write(&path, &after[..length]).unwrap();
        assert!(!is_current(folder, new.list().digest()), "{length}");
        let report = new.publish(folder).unwrap();
        assert_eq!((report.written, report.removed), (0, 0), "{length}");
        assert!(is_current(folder, new.list().digest()), "{length}");
        assert_eq!(visible(folder), new.visible());
    }

    // A copy of the folder by hard links keeps its own record.
    fs::write(&path, &after).unwrap();
    let copy = root.path().join("copy");
    fs::hard_link(&path, &copy).unwrap();
    old.publish(folder).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), after);
    fs::remove_file(&copy).unwrap();
    for n in 0..20 {
        let package = if n % 2 == 0 { &new } else { &old };
        package.publish(folder).unwrap();
        assert!(is_current(folder, package.list().digest()));
    }
    let lines = fs::read(&path).unwrap().iter().filter(|&&byte| byte == b'\n').count();
    assert!(lines < 2 * 21, "it does not grow for ever: {lines}");
}

#[test]
fn what_cannot_fit_is_told_before_anything_is_written() {
    let folder = scratch();
    let old = Package::new(&[("360p", &[1])]);
    old.publish(folder.path()).unwrap();
    let mut files = old.list().files().to_vec();
    files[0].size = u64::MAX / 2;
    files[1].size = u64::MAX - 1;
    let files = FileList::new(files).unwrap();
    let error = publish(folder.path(), &files, &mut Nothing).unwrap_err();
    assert!(matches!(error, PublishError::NoSpace { needed: u64::MAX, .. }), "{error}");
    assert!(error.hint().is_some());
    assert!(is_current(folder.path(), old.list().digest()));
}

#[test]
fn failures_of_the_disk_come_with_a_hint() {
    for kind in [
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::CrossesDevices,
        io::ErrorKind::Unsupported,
    ] {
        let error = PublishError::io("write", Path::new("/dist/a.m4s"))(kind.into());
        assert!(error.hint().is_some(), "{kind}");
        assert!(error.to_string().starts_with("cannot write /dist/a.m4s: "), "{error}");
    }
    // /dev/full takes nothing, as a full disk does.
    let full = fs::write("/dev/full", "x").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn published_files_can_be_read_by_a_web_server() {
    let folder = scratch();
    Package::new(&[("360p", &[1])]).publish(folder.path()).unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&folder.path().join("master.m3u8")), mode(&plain));
}

#[test]
fn a_comparison_tells_what_a_publish_will_do_and_does_nothing() {
    let root = scratch();
    let folder = root.path().join("out");
    let old = Package::new(&[("hd", &[1, 2, 3]), ("sd", &[1])]);
    let names = |paths: &[RelPath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    let first = compare(&folder, &old.list()).unwrap();
    assert_eq!((first.added.len(), first.recorded, first.is_finished), (old.files.len(), 0, false));
    assert!(!folder.exists());
    old.publish(&folder).unwrap();
    let nothing = FolderDifference { recorded: old.files.len(), is_finished: true, ..Default::default() };
    assert_eq!(compare(&folder, &old.list()).unwrap(), nothing);

    let new = Package::new(&[("hd", &[1, 3, 4])]);
    fs::remove_file(folder.join("hd/media/1.m4s")).unwrap();
    fs::write(folder.join("hd/media/3.m4s"), "touched").unwrap();
    let before = visible(&folder);
    let difference = compare(&folder, &new.list()).unwrap();
    assert_eq!(names(&difference.added), ["hd/media/1.m4s", "hd/media/4.m4s"]);
    assert_eq!(names(&difference.changed), ["hd/index.m3u8", "hd/media/3.m4s", "master.m3u8"]);
    assert_eq!(
        names(&difference.removed),
        ["hd/media/2.m4s", "sd/index.m3u8", "sd/init.mp4", "sd/media/1.m4s"]
    );
    assert_eq!(visible(&folder), before);
    new.publish(&folder).unwrap();
    let nothing = FolderDifference { recorded: new.files.len(), is_finished: true, ..Default::default() };
    assert_eq!(compare(&folder, &new.list()).unwrap(), nothing);

    // A folder of somebody else's.
    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    assert!(matches!(compare(&foreign, &new.list()), Err(PublishError::ForeignFolder { .. })));
}
