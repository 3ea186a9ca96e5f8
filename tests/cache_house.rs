//! Housekeeping of the cache, through the program: what is needed stays, what is damaged is found and
//! made again, and nothing of it disturbs a build.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::{BUNNY_5S, Project, files_under, ladder};
use rivet::testing::build::BuildRecord;
use rivet::testing::cache::{Cache, CacheEntry, Digest, EntryKey, EntryResult, LocalCache};
use serde_json::Value;

fn spec(crf: u32) -> String {
    ladder(
        "clip.mp4",
        &format!(
            "[segments]\ntarget = \"1s\"\n[[rung]]\nname = \"a\"\nheight = 54\ncrf = {crf}\n\
             [[rung]]\nname = \"b\"\nheight = 36\n[[audio]]\nname = \"stereo\"\n"
        ),
    )
}

fn project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", spec(40));
    project
}

fn cache_folder(project: &Project) -> PathBuf {
    project.path("cache/rivet")
}

fn part(project: &Project, part: &str) -> Vec<PathBuf> {
    let folder = cache_folder(project).join("v3").join(part);
    files_under(&folder).into_keys().map(|name| folder.join(name)).collect()
}

fn try_cache(project: &Project, arguments: &[&str]) -> Output {
    project.rivet().arg("cache").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `rivet cache`, and expects it to end well.
fn cache(project: &Project, arguments: &[&str]) -> String {
    let output = try_cache(project, arguments);
    assert!(output.status.success(), "{arguments:?}\n{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn cache_json(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&cache(project, &[arguments, &["--json"]].concat())).unwrap()
}

/// Refused, with that status and these words.
fn refused(project: &Project, arguments: &[&str], status: i32, words: &str) {
    let output = try_cache(project, arguments);
    assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    assert!(text(&output).contains(words), "{}", text(&output));
}

/// Lets all entries look as if they had been used last so many days ago.
fn age(project: &Project, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    for path in ["entries", "blobs", "stats"].iter().flat_map(|name| part(project, name)) {
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }
}

/// The names of all entries that can be reached from what is pinned.
fn reachable(project: &Project) -> BTreeSet<String> {
    let pins = cache_json(project, &["pins"]);
    let cache = LocalCache::open(&cache_folder(project)).unwrap();
    let titles = pins.as_array().unwrap().iter().flat_map(|pin| pin["titles"].as_array().unwrap());
    let mut left: Vec<EntryKey> =
        titles.map(|title| EntryKey(title["key"].as_str().unwrap().parse().unwrap())).collect();
    let mut reached = BTreeSet::new();
    while let Some(key) = left.pop() {
        if reached.insert(key.to_string()) {
            left.extend(cache.find_entry(&key).unwrap().expect("inputs are there").inputs);
        }
    }
    reached
}

fn entries(project: &Project) -> BTreeSet<String> {
    let names = part(project, "entries").into_iter().map(|path| path.file_name().unwrap().to_owned());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn what_a_title_is_made_of_hangs_together_and_a_pin_holds_it() {
    let project = project();
    refused(&project, &["pin"], 1, "this cache has no build of it");
    let first = project.build();
    let before = project.output();
    assert!(cache(&project, &["pin"]).contains("1 title pinned"));
    assert_eq!(reachable(&project), entries(&project), "all of a build hangs on its title");

    // A second version shares a rung and the sound with the first, found in their packs.
    project.write("ladder.toml", spec(50));
    let second = project.build();
    assert!(second.ran("encode") < first.ran("encode"));
    let pinned = reachable(&project);
    assert!(pinned.len() < entries(&project).len());
    age(&project, 10);
    let gone = cache_json(&project, &["gc", "--max-age", "5d"]);
    assert_eq!(entries(&project), pinned);
    assert!(gone["removed"]["blobs"]["files"].as_u64().unwrap() > 0, "{gone}");

    // Whatever is asked, the pinned version stays, and is told to be why.
    let told = cache(&project, &["gc", "--max-size", "1"]);
    assert!(told.contains("is pinned") && !told.contains("no entry names"), "{told}");
    assert_eq!(entries(&project), pinned);
    project.write("ladder.toml", spec(40));
    fs::remove_dir_all(project.path("out")).unwrap();
    let again = project.build();
    // The source was forgotten, and is read; what hangs on it is there.
    assert_eq!((again.ran("source"), again.ran_at_all()), (1, 2), "{}", again.summary());
    assert_eq!(project.output(), before);

    assert!(cache(&project, &["unpin"]).contains("unpinned "));
    refused(&project, &["unpin"], 1, "there is no pin");
    cache(&project, &["gc", "--max-size", "1"]);
    assert_eq!((entries(&project).len(), part(&project, "blobs").len()), (0, 0));
    project.build();
    assert_eq!(project.output(), before);
}

#[test]
fn what_is_used_is_not_old() {
    let project = project();
    project.build();
    age(&project, 10);
    // Nothing is looked at but the title's own entry, which stands for all.
    assert_eq!(project.build().ran_at_all(), 0);
    let dry = cache_json(&project, &["gc", "--max-age", "5d", "--dry-run"]);
    assert_eq!(dry["removed"]["entries"]["files"], 0, "{dry}");
    let all = files_under(&cache_folder(&project));
    age(&project, 10);
    let dry = cache_json(&project, &["gc", "--max-age", "5d", "--dry-run"]);
    assert_eq!(dry["removed"]["entries"]["files"], entries(&project).len());
    assert_eq!(dry["kept"]["blobs"]["files"], 0, "{dry}");
    assert_eq!(files_under(&cache_folder(&project)), all, "a dry run removes nothing");
    let done = cache_json(&project, &["gc", "--max-age", "5d"]);
    assert_eq!(done["removed"], dry["removed"]);
    assert_eq!(entries(&project).len(), 0);
}

#[test]
fn sizes_are_kept_and_ages_and_sizes_have_units() {
    let project = project();
    project.build();
    let all = cache_json(&project, &["gc"]);
    assert_eq!(all["removed"]["entries"]["files"], 0);
    let bytes = |report: &Value| -> u64 {
        let parts = report["kept"].as_object().unwrap().values();
        parts.map(|part| part["bytes"].as_u64().unwrap()).sum()
    };
    let half = bytes(&all) / 2;
    let report = cache_json(&project, &["gc", "--max-size", &half.to_string()]);
    assert!(bytes(&report) <= half && bytes(&report) > half / 2, "{report}");
    // Encodes stay longer than the segments that are made of them.
    let stats = cache_json(&project, &["stats"]);
    let kind = |name: &str| {
        let kinds = stats["kinds"].as_array().unwrap().iter().find(|kind| kind["name"] == name);
        kinds.map_or(0, |kind| kind["entries"].as_u64().unwrap())
    };
    assert!(kind("encode") > kind("mux"), "{stats}");
    refused(&project, &["gc", "--max-size", "20X"], 2, "optionally with K, M, G or T");
    refused(&project, &["gc", "--max-age", "30"], 2, "unit");
    // What is asked for is told as it was asked for.
    project.build();
    cache(&project, &["pin"]);
    let told = cache(&project, &["gc", "--max-size", "2K"]);
    assert!(told.contains("more than 2.00 kB is kept"), "{told}");
    cache(&project, &["unpin"]);

    // Several at once: what was there goes once.
    let there = ["entries", "blobs"].map(|name| part(&project, name).len() as u64);
    assert!(there.iter().all(|&files| files > 0));
    let spawn = || {
        let mut gc = project.rivet();
        gc.args(["cache", "gc", "--max-size", "0", "--json"]).stdout(std::process::Stdio::piped());
        gc.spawn().unwrap()
    };
    let children = [spawn(), spawn(), spawn()];
    let mut gone = [0, 0];
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (gone, name) in gone.iter_mut().zip(["entries", "blobs"]) {
            *gone += report["removed"][name]["files"].as_u64().unwrap();
        }
    }
    assert_eq!(gone, there);
}

/// Without a spec what lies apart is looked after too; with one its own cache alone. The log is one.
#[test]
fn caches_that_lie_apart() {
    let project = project();
    project.build();
    let folder = cache_folder(&project);
    let apart = rivet::testing::cache::isolated_namespace(&folder, &Digest::of(b"further keys"));
    let other = LocalCache::open(&apart).unwrap();
    let blob = other.put_blob(b"apart").unwrap();
    let result = EntryResult { blobs: vec![blob], ..EntryResult::default() };
    other.put_entry(&EntryKey(Digest::of(b"key")), &CacheEntry { result, ..Default::default() }).unwrap();

    let files = |arguments: &[&str]| {
        let report = cache_json(&project, arguments);
        (report["folders"].as_array().unwrap().len(), report["read"]["files"].as_u64())
    };
    let ((folders, own), (all_folders, all)) = (files(&["verify", "ladder.toml"]), files(&["verify"]));
    assert_eq!((folders, all_folders, all), (1, 2, own.map(|own| own + 2)));
    fs::write(other.blob_file(&blob).unwrap(), "x").unwrap();
    assert_eq!(try_cache(&project, &["verify"]).status.code(), Some(1));
    cache(&project, &["verify", "--repair"]);

    let here = LocalCache::open(&folder).unwrap();
    let record = here.log_names().unwrap().pop().unwrap();
    let bytes = here.log_record(&record).unwrap();
    let older = format!("20000101T000000.000Z-{}", record.rsplit_once('-').unwrap().1);
    fs::write(folder.join("v3/log").join(format!("{older}.json")), &bytes).unwrap();
    let newer = other.append_log(SystemTime::now() + Duration::from_secs(1000), &bytes).unwrap();
    let list = project.rivet().args(["log", "--json"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&list.stdout).unwrap().as_array().unwrap().len(), 3);
    let mut records = BuildRecord::all(&[&here, &other], "").unwrap().map(|record| record.name);
    assert_eq!(records.next().as_ref(), Some(&newer));
    // Nothing is read before it is asked for.
    fs::remove_file(folder.join("v3/log").join(format!("{older}.json"))).unwrap();
    assert_eq!(records.collect::<Vec<_>>(), [record]);

    let ours = entries(&project).len();
    let removed = |arguments: &[&str]| cache_json(&project, arguments)["removed"]["entries"]["files"].clone();
    assert_eq!(removed(&["gc", "ladder.toml", "--max-size", "0"]), ours);
    assert_eq!(removed(&["gc", "--max-size", "0"]), 1);
    other.put_blob(b"apart").unwrap();
    assert!(cache(&project, &["clear", "--yes"]).contains("removed"));
    assert!(!other.has_blob(&blob).unwrap());
}

/// Builds and cleanings that remove all they may, at once: every build ends right.
#[test]
fn builds_and_cleanings_at_once() {
    let (one, other) = (project(), project());
    one.build();
    other.write("ladder.toml", spec(50));
    other.build();
    let project = project();
    /// Says that it is over, also where a build went wrong.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    let cleanings = std::thread::scope(|scope| {
        let ends = Over(&over);
        let cleaner = scope.spawn(|| {
            let mut cleanings = 0;
            while !over.load(Ordering::Relaxed) {
                cache(&project, &["gc", "--max-size", "1", "--max-age", "1ms"]);
                cleanings += 1;
            }
            cleanings
        });
        for (crf, whole) in [(40, &one), (50, &other), (40, &one), (40, &one), (50, &other)] {
            project.write("ladder.toml", spec(crf));
            project.build();
            assert_eq!(project.output(), whole.output());
            fs::remove_dir_all(project.path("out")).unwrap();
        }
        drop(ends);
        cleaner.join().unwrap()
    });
    assert!(cleanings > 5, "{cleanings}");
}

/// A generator of numbers that is the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

#[test]
fn ten_thousand_flipped_bits_are_found_and_healed() {
    let project = project();
    project.build();
    cache(&project, &["pin"]);
    let before = project.output();
    let cache_here = LocalCache::open(&cache_folder(&project)).unwrap();
    let go = AtomicBool::new(false);
    let verify = || cache_here.verify(false, &go, &|_, _| {}).unwrap();
    let files = || -> Vec<PathBuf> {
        ["blobs", "entries", "stats", "log", "pins"].iter().flat_map(|name| part(&project, name)).collect()
    };
    assert!(verify().damaged.is_empty() && verify().foreign.is_empty());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut flips = 0;
    let all = files();
    while flips < 10_000 {
        // Half of the files, a bit in each.
        let chosen: Vec<(&PathBuf, usize)> = all
            .iter()
            .filter_map(|path| {
                let bits = fs::metadata(path).unwrap().len() as usize * 8;
                (random.below(2) == 0).then(|| (path, random.below(bits)))
            })
            .collect();
        chosen.iter().for_each(|(path, bit)| flip(path, *bit));
        let found: BTreeSet<PathBuf> = verify().damaged.into_iter().map(|damage| damage.path).collect();
        let flipped: BTreeSet<PathBuf> = chosen.iter().map(|(path, _)| (*path).clone()).collect();
        assert_eq!(found, flipped);
        flips += chosen.len();
        chosen.iter().for_each(|(path, bit)| flip(path, *bit));
    }

    for one_in in [1, 2, 5] {
        for path in files() {
            let bits = fs::metadata(&path).unwrap().len() as usize * 8;
            if random.below(one_in) == 0 {
                flip(&path, random.below(bits));
            }
        }
        fs::remove_dir_all(project.path("out")).unwrap();
        project.build();
        assert_eq!(project.output(), before);
    }
    // What no build looks at stays damaged until it is repaired.
    let output = try_cache(&project, &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    refused(&project, &["gc"], 1, "is damaged");
    assert!(cache(&project, &["verify", "--repair"]).contains("removed"));
    fs::remove_dir_all(project.path("out")).unwrap();
    project.build();
    assert_eq!(project.output(), before);
    assert!(cache(&project, &["verify"]).contains("nothing damaged"));
}

#[test]
fn what_is_not_rivets_is_told_and_left_alone() {
    let project = project();
    project.build();
    let foreign = ["v3/blobs/notes.txt", "v3/log/notes.json", "v3/pins/notes.txt", "v3/notes.txt"];
    for name in foreign {
        fs::write(cache_folder(&project).join(name), "mine").unwrap();
    }
    let misplaced = cache_folder(&project).join("v3/blobs").join("ab".repeat(32));
    fs::write(&misplaced, "x").unwrap();
    let report = try_cache(&project, &["verify", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["foreign"].as_array().unwrap().len(), 4, "{report}");
    assert_eq!(report["damaged"].as_array().unwrap().len(), 1, "{report}");
    cache(&project, &["verify", "--repair"]);
    assert!(!misplaced.exists());

    cache(&project, &["gc", "--max-size", "1", "--max-age", "1ms"]);
    assert!(foreign.iter().all(|name| cache_folder(&project).join(name).exists()), "gc");
    assert!(entries(&project).is_empty());
    fs::remove_dir_all(project.path("out")).unwrap();
    project.build();

    let stats = cache_json(&project, &["stats"]);
    let titles = stats["titles"].as_array().unwrap();
    assert_eq!(titles.len(), 1);
    assert_eq!(titles[0]["entries"], stats["entries"], "{stats}");
    let kinds = stats["kinds"].as_array().unwrap().iter().map(|kind| kind["entries"].as_u64().unwrap());
    assert_eq!(kinds.sum::<u64>(), stats["entries"].as_u64().unwrap());
    assert_eq!(stats["ages"][0]["entries"], stats["entries"]);
    assert!(cache(&project, &["stats"]).contains("by title"));

    let before = project.output();
    refused(&project, &["clear"], 2, "--yes");
    assert!(!entries(&project).is_empty());
    cache(&project, &["clear", "--yes"]);
    assert!(foreign.iter().all(|name| cache_folder(&project).join(name).exists()));
    // The one that is left among the results is not rivet's.
    assert_eq!((entries(&project).len(), part(&project, "blobs").len()), (0, 1));
    project.build();
    assert_eq!(project.output(), before);
}

#[test]
fn a_change_to_an_output_file_does_nothing_to_the_cache() {
    let project = project();
    project.build();
    let before = project.output();
    for name in before.keys() {
        fs::write(project.path("out").join(name), "vandalism").unwrap();
    }
    assert!(cache(&project, &["verify"]).contains("nothing damaged"));
    assert_eq!(project.build().ran("mux"), 0);
    assert_eq!(project.output(), before);
}
