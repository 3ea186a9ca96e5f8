//! rivet tells why: plans that are exact, keys taken apart, the graph, the log, the check, the
//! trace.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{BUNNY_5S, FRIDAY, Project, TINY_RUNG, ladder};
use rivet::testing::cache::{Cache, EntryKey, LocalCache};
use serde_json::Value;

const AUDIO: &str = "[[audio]]\nname = \"stereo\"\nbitrate = \"64k\"\n";

fn project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}{AUDIO}")));
    project
}

/// Runs rivet and returns its exit status and what it printed.
fn rivet(project: &Project, arguments: &[&str]) -> (i32, String) {
    let output = project.rivet().args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn json(project: &Project, arguments: &[&str]) -> Value {
    let (status, text) = rivet(project, arguments);
    assert_eq!(status, 0, "{arguments:?}\n{text}");
    serde_json::from_str(&text).unwrap()
}

/// As rivet prints them: a title's name may hold what parts it from the step's.
#[test]
fn a_step_is_found_by_the_name_that_is_printed() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let title = |name: &str, output: &str| {
        format!("[[title]]\nname = \"{name}\"\nsource = \"clip.mp4\"\noutput = \"{output}\"\n")
    };
    project.write("ladder.toml", format!("{}{}{TINY_RUNG}", title("a", "x"), title("a: b", "y")));
    project.build();
    for name in ["a", "a: b"] {
        let steps = json(&project, &["explain", "ladder.toml", &format!("{name}:chunk"), "--json"]);
        let steps = steps.as_array().unwrap();
        assert_eq!((steps.len(), &steps[0]["title"]), (1, &Value::from(name)), "{steps:?}");
    }
}

/// Events alone go to standard output where they are asked for there.
#[test]
fn events_can_be_piped() {
    let project = project();
    let output = project.rivet().args(["build", "--events", "-"]).output().unwrap();
    assert!(output.status.success());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["event"], "summary");
    assert!(String::from_utf8_lossy(&output.stderr).contains("out/master.m3u8"));
    assert!(!project.path("-").exists());
}

/// CI services make an empty variable of one that is not set.
#[test]
fn an_empty_name_of_the_cache_folder_is_none() {
    let project = project();
    let output = project.rivet().arg("build").env("RIVET_CACHE_DIR", "").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(project.path("cache/rivet").exists());
    assert_eq!(project.build().ran_at_all(), 0);
}

/// A failure is told with what helps by every command that meets it.
#[test]
fn what_helps_is_told_by_all_who_look() {
    let project = Project::new();
    project.write("ladder.toml", ladder("missing.mp4", TINY_RUNG));
    let told = |arguments: &[&str]| {
        let output = project.rivet().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let plan = told(&["plan"]);
    assert!(plan.contains("missing.mp4") && plan.contains("\n  hint: "), "{plan}");
    for look in [&["explain", "ladder.toml", "chunk"][..], &["graph"]] {
        assert_eq!(told(look), plan, "{look:?}");
    }
}

/// How many steps of each kind a plan says will run.
fn to_run(plan: &Value) -> BTreeMap<String, u64> {
    let nodes = plan["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["kind"].as_str().unwrap().to_owned(), node["run"].as_u64().unwrap())).collect()
}

#[test]
fn a_plan_is_exact_and_its_exit_status_tells() {
    let project = project();
    let unseen = json(&project, &["plan", "--json"]);
    assert_eq!(unseen["titles"][0]["exact"], false);
    assert_eq!(rivet(&project, &["plan", "--exit-code"]).0, 3);
    project.build();
    let done = json(&project, &["plan", "--json"]);
    assert!(to_run(&done).values().all(|&count| count == 0), "{done}");
    assert_eq!(rivet(&project, &["plan", "--exit-code"]).0, 0);

    // The video and the audio change: what runs is told to the step, and why.
    project.write(
        "ladder.toml",
        ladder("clip.mp4", &format!("{TINY_RUNG}crf = 40\n{}", AUDIO.replace("64k", "80k"))),
    );
    let plan = json(&project, &["plan", "--json"]);
    assert_eq!(plan["titles"][0]["exact"], true);
    let tracks = plan["titles"][0]["tracks"].as_array().unwrap();
    assert_eq!(tracks[0]["why"], serde_json::json!(["crf: 40, was 32"]));
    assert_eq!(tracks[1]["why"], serde_json::json!(["bitrate: 80000, was 64000"]));
    assert!(rivet(&project, &["plan"]).1.contains("crf: 40, was 32"));
    let build = project.build();
    for node in plan["nodes"].as_array().unwrap() {
        let (kind, count) = (node["kind"].as_str().unwrap(), |what: &str| node[what].as_u64().unwrap());
        // What follows runs unless its inputs come out as they were.
        let ran = build.ran(kind);
        assert!((count("run")..=count("run") + count("may_run")).contains(&ran), "{kind}: {node}");
        assert_eq!(count("run"), if matches!(kind, "encode" | "audio") { ran } else { 0 }, "{kind}");
    }
    assert_eq!(plan["nodes"][6]["kind"], "mux");
    assert_eq!(tracks[0]["to_encode"], build.ran("encode"));

    // Results that are gone are a reason, too.
    fs::remove_dir_all(project.path("cache/rivet/v3/blobs")).unwrap();
    fs::remove_dir_all(project.path("out")).unwrap();
    let (_, text) = rivet(&project, &["plan"]);
    assert!(text.contains("\nrun: ") && !text.contains("\nrun: nothing"), "{text}");
}

/// Reasons compare with a build of the same spec or of a copy of the project, which they name, and never with
/// one of another spec whose title has the same name.
#[test]
fn a_comparison_names_its_build_and_takes_no_other_specs() {
    let project = project();
    project.build();
    let name = json(&project, &["log", "--json"])[0]["name"].as_str().unwrap().to_owned();
    let edited = ladder("clip.mp4", &format!("{TINY_RUNG}crf = 40\n{AUDIO}"));
    let path = |spec: &str| project.path(spec).canonicalize().unwrap().display().to_string();
    let original = path("ladder.toml");
    project.write("ladder.toml", &edited);
    // A copy of the project, and a spec of the same text that lies elsewhere.
    project.write("copy/ladder.toml", &edited);
    project.copy_clip(BUNNY_5S, "copy/clip.mp4");
    for spec in ["ladder.toml", "copy/ladder.toml"] {
        let plan = json(&project, &["plan", spec, "--json"]);
        assert_eq!(plan["titles"][0]["tracks"][0]["why"], serde_json::json!(["crf: 40, was 32"]), "{spec}");
        assert_eq!(plan["last"]["build"], *name, "{spec}");
        assert_eq!(plan["last"]["ladder"], *original, "{spec}");
        assert!(plan["last"]["started"].as_u64().unwrap() > 1_700_000_000);
        let (_, text) = rivet(&project, &["plan", spec]);
        assert!(text.contains(&format!("compared with the build {name} (2")), "{text}");
        assert!(text.contains(&format!(") of {original}\n")), "{text}");
    }
    // Another spec with a title of the same name, on the same source.
    let other = project.write("other.toml", &edited);
    let plan = json(&project, &["plan", other.to_str().unwrap(), "--json"]);
    assert_eq!((&plan["titles"][0]["name"], &plan["last"]), (&"clip".into(), &Value::Null));
    let why = serde_json::json!(["the build log has no finished build of this spec"]);
    assert_eq!(plan["titles"][0]["tracks"][0]["why"], why);
    assert!(!rivet(&project, &["plan", "other.toml"]).1.contains("compared with"));
    // Another project whose spec is called the same, on another source of the same name.
    project.write("foreign/ladder.toml", &edited);
    project.copy_clip(FRIDAY, "foreign/clip.mp4");
    let explain = json(&project, &["explain", "foreign/ladder.toml", "source", "--json"]);
    assert_eq!(explain[0]["last"], Value::Null);
}

#[test]
fn a_key_is_taken_apart_beside_the_last_builds() {
    let project = project();
    let explain = |step: &str| json(&project, &["explain", "ladder.toml", step, "--json"]);
    project.build();
    let encode = &explain("tiny/2")[0];
    assert_eq!((&encode["verdict"], &encode["kind"]), (&"cached".into(), &"encode".into()));
    assert!(encode["result"]["by"].as_str().unwrap().contains("rav1e"));
    assert!(encode["result"]["made_at"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(encode["needed_by"], serde_json::json!(["tiny/2/mux"]));
    assert_eq!(encode["needs"], serde_json::json!(["decode/1"]));
    assert_eq!(encode["key"], encode["last"]["key"], "nothing has changed since the last build");

    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}crf = 40\n{AUDIO}")));
    let encode = &explain("tiny/2")[0];
    assert_eq!(encode["verdict"], "run");
    let fields = encode["fields"].as_array().unwrap();
    let differing: Vec<&Value> = fields.iter().filter(|field| field["differs"] == true).collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!(
        (&differing[0]["name"], &differing[0]["now"], &differing[0]["last"]),
        (&"crf".into(), &"40".into(), &"32".into())
    );
    assert_eq!(explain("tiny/2/mux")[0]["verdict"], "may_run");
    assert_eq!(explain("audio/stereo/1")[0]["verdict"], "cached");
    let all = explain("tiny");
    let all: HashSet<&str> =
        all.as_array().unwrap().iter().map(|step| step["node"].as_str().unwrap()).collect();
    assert!(
        ["tiny/1", "tiny/1/mux", "tiny/init", "tiny/playlist", "tiny/contract"]
            .iter()
            .all(|s| all.contains(s))
    );
    let (_, text) = rivet(&project, &["explain", "ladder.toml", "tiny/2"]);
    assert!(text.contains("* crf") && text.contains("40   was 32"), "{text}");
    assert_eq!(rivet(&project, &["explain", "ladder.toml", "tiny/99"]).0, 2);
    for step in ["index", "decode/1", "decode/audio/1", "chunk", "multivariant", "publish", "source"] {
        assert_eq!(explain(step).as_array().unwrap().len(), 1, "{step}");
    }
}

/// What lies outside the cache has no key: the file and the folder are explained in its place.
#[test]
fn the_source_and_the_output_folder_are_explained() {
    let project = project();
    let explain = |step: &str| json(&project, &["explain", "ladder.toml", step, "--json"])[0].clone();
    let text = |step: &str| rivet(&project, &["explain", "ladder.toml", step]).1;
    let without_cache = explain("source");
    assert_eq!((&without_cache["verdict"], &without_cache["publish"]), (&"run".into(), &Value::Null));
    assert_eq!(without_cache["source"]["must_be_read"], true, "there is no cache that could keep its digest");
    project.build();

    let file = project.path("clip.mp4");
    let bytes = fs::read(&file).unwrap();
    let digest = blake3::hash(&bytes).to_string();
    let known = explain("source");
    let source = &known["source"];
    assert_eq!((&known["verdict"], &source["must_be_read"]), (&"cached".into(), &false.into()));
    assert_eq!((&source["size"], &source["digest"]), (&bytes.len().into(), &digest.as_str().into()));
    assert_eq!(source["last_digest"], *digest);
    assert_eq!(known["needed_by"], serde_json::json!(["index"]));
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bytes).unwrap();
    let told = text("source");
    assert!(told.starts_with("source (source), current") && told.contains("read just now"), "{told}");
    assert!(told.contains("as in the last build"), "{told}");

    let published = project.output();
    let current = explain("publish");
    assert_eq!((&current["verdict"], &current["key"]), (&"cached".into(), &Value::Null));
    assert_eq!(current["publish"]["recorded"], published.len());
    assert_eq!(current["publish"]["finished"], true);
    for change in ["added", "changed", "removed"] {
        assert_eq!(current["publish"]["changes"][change]["files"], 0, "{change}");
    }
    // A file that is gone, and one that somebody has touched.
    fs::remove_file(project.path("out/master.m3u8")).unwrap();
    fs::write(project.path("out/tiny/playlist.m3u8"), "mine").unwrap();
    let touched = explain("publish");
    let changes = &touched["publish"]["changes"];
    assert_eq!(touched["verdict"], "run");
    assert_eq!(changes["added"], serde_json::json!({"files": 1, "first": ["master.m3u8"]}));
    assert_eq!(changes["changed"], serde_json::json!({"files": 1, "first": ["tiny/playlist.m3u8"]}));
    let told = text("publish");
    assert!(
        told.starts_with("publish (publish), runs") && told.contains("added   1 file: master.m3u8"),
        "{told}"
    );

    // A title with other files, which are not known before they are encoded, and then are.
    project.write("ladder.toml", ladder("clip.mp4", TINY_RUNG));
    let unknown = explain("publish");
    assert_eq!((&unknown["verdict"], &unknown["publish"]["changes"]), (&"may_run".into(), &Value::Null));
    assert_eq!(unknown["publish"]["recorded"], published.len());
    project.build();
    project.write("ladder.toml", ladder("clip.mp4", &format!("{TINY_RUNG}{AUDIO}")));
    let more = explain("publish");
    let of_audio = published.keys().filter(|name| name.starts_with("stereo/")).count();
    assert_eq!(more["publish"]["changes"]["added"]["files"], of_audio);
    // The playlists of all tracks have one target duration.
    let playlists = serde_json::json!(["master.m3u8", "tiny/playlist.m3u8"]);
    assert_eq!(more["publish"]["changes"]["changed"]["first"], playlists);
}

/// Of a build that did not get to its end the log says what was wanted, and how far it was.
#[test]
fn the_log_tells_what_an_interrupted_build_had_left() {
    let project = project();
    let rungs = "[segments]\ntarget = \"1s\"\n[[rung]]\nname = \"a\"\nheight = 90\n\
                 [[rung]]\nname = \"b\"\nheight = 54\n";
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    // A pipe by name: the build's events come as they happen.
    let pipe = project.path("events.pipe");
    common::quietly("mkfifo", [&pipe]);
    let mut build = project.rivet();
    build.args(["build", "--jobs", "1", "--events"]).arg(&pipe).stdout(Stdio::null()).stderr(Stdio::null());
    let mut build = build.spawn().unwrap();
    let events = BufReader::new(fs::File::open(&pipe).unwrap()).lines();
    let encoded = |event: &Value| event["event"] == "finished" && event["kind"] == "encode";
    let events = events.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(events.into_iter().any(|event| encoded(&event)));
    common::quietly("kill", ["-INT", &build.id().to_string()]);
    assert_eq!(build.wait().unwrap().code(), Some(130));

    let record = json(&project, &["log", "last", "--json"]);
    let title = &record["titles"][0];
    assert_eq!((&record["ending"], &title["published"]), (&"interrupted".into(), &false.into()));
    let encodes = |what: &str| title["steps"]["encode"][what].as_u64().unwrap();
    assert_eq!(encodes("done"), record["nodes"]["encode"]["ran"].as_u64().unwrap());
    assert!(encodes("done") >= 1 && encodes("left") >= 1, "{title}");
    assert_eq!(title["steps"]["source"], serde_json::json!({"done": 1, "left": 0, "failed": 0}));
    assert_eq!(title["steps"]["publish"], serde_json::json!({"done": 0, "left": 1, "failed": 0}));
    let (_, told) = rivet(&project, &["log", "last"]);
    let row = format!("    encode       {} done, {} left\n", encodes("done"), encodes("left"));
    let rows: Vec<&str> = told.lines().map(str::trim).collect();
    assert!(told.contains("\nwanted:\n  clip: not published"), "{told}");
    let is_row = |line: &&&str| line.split_whitespace().eq(row.split_whitespace());
    assert!(rows.iter().any(|line| is_row(&line)), "{told}");
    let all = encodes("done") + encodes("left");
    assert!(rivet(&project, &["log"]).1.contains(&format!("{} of {all} encodes", encodes("done"))));

    // One that fails, and one that gets to its end.
    project.write("ladder.toml", ladder("missing.mp4", rungs));
    assert_eq!(project.try_build(&[]).status, 1);
    let failed = json(&project, &["log", "last", "--json"])["titles"][0].clone();
    assert_eq!(failed["steps"]["source"], serde_json::json!({"done": 0, "left": 0, "failed": 1}));
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    let whole = project.build();
    let done = json(&project, &["log", "last", "--json"])["titles"][0].clone();
    assert_eq!((&done["published"], &done["exact"]), (&true.into(), &true.into()));
    for (kind, steps) in done["steps"].as_object().unwrap() {
        assert_eq!((&steps["left"], &steps["failed"]), (&0.into(), &0.into()), "{kind}");
        assert_eq!(steps["done"], whole.ran(kind) + whole.count(kind, "cached"), "{kind}");
    }
}

#[test]
fn the_graph_has_every_step() {
    let project = project();
    let first = project.build();
    let graph = json(&project, &["graph", "--format", "json"]);
    let nodes = graph["nodes"].as_array().unwrap();
    let summary = first.summary()["nodes"].as_object().unwrap();
    for (kind, counts) in summary {
        let of_kind = nodes.iter().filter(|node| node["kind"] == kind.as_str()).count() as u64;
        assert_eq!(of_kind, counts["ran"].as_u64().unwrap() + counts["cached"].as_u64().unwrap(), "{kind}");
    }
    assert!(nodes.iter().all(|node| node["state"] == "cached"));
    // From the source everything is reached, and from everything the end.
    let edges: Vec<(u64, u64)> = graph["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| (edge["from"].as_u64().unwrap(), edge["to"].as_u64().unwrap()))
        .collect();
    let id = |label: &str| nodes.iter().find(|node| node["label"] == label).unwrap()["id"].as_u64().unwrap();
    let reach = |start: u64, forwards: bool| {
        let mut seen = HashSet::from([start]);
        let mut stack = vec![start];
        while let Some(next) = stack.pop() {
            for &(from, to) in &edges {
                let (from, to) = if forwards { (from, to) } else { (to, from) };
                if from == next && seen.insert(to) {
                    stack.push(to);
                }
            }
        }
        seen.len()
    };
    assert_eq!(reach(id("source"), true), nodes.len());
    assert_eq!(reach(id("publish"), false), nodes.len());

    let (_, dot) = rivet(&project, &["graph"]);
    let (_, grouped) = rivet(&project, &["graph", "--grouped"]);
    assert!(dot.starts_with("digraph"));
    for node in nodes {
        let label = node["label"].as_str().unwrap();
        assert!(dot.contains(&format!("[label=\"{label}\\n")), "{label}");
    }
    assert!(grouped.len() < dot.len() && grouped.contains("tiny/encode"));
}

#[test]
fn the_log_knows_every_build() {
    let project = project();
    assert!(rivet(&project, &["log"]).1.contains("no build"));
    let first = project.build();
    project.build();
    let log = json(&project, &["log", "--json"]);
    let log = log.as_array().unwrap();
    assert_eq!(log.len(), 2);
    assert!(log[0]["ran"].as_array().unwrap().is_empty(), "the newest comes first: {}", log[0]);
    let ran: u64 = log[1]["ran"].as_array().unwrap().iter().map(|ran| ran["steps"].as_u64().unwrap()).sum();
    assert_eq!(ran, first.ran_at_all());
    let path: Vec<&str> = log[1]["critical_path"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["kind"].as_str().unwrap())
        .collect();
    assert_eq!(path.last(), Some(&"publish"), "{path:?}");
    assert!(path.contains(&"encode") && path.contains(&"decode"), "{path:?}");
    let encodes = first.ran("encode");
    let (_, text) = rivet(&project, &["log"]);
    assert_eq!(text.lines().count(), 2);
    let name = text.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(log[1]["name"], *name);
    let (_, told) = rivet(&project, &["log", &name]);
    assert!(told.contains(&format!("tiny/1-{encodes}")) && told.contains("critical path"), "{told}");
    assert_eq!(rivet(&project, &["log", "nonsense"]).0, 2);

    // A build that fails is in it, too; and one record that is damaged hides no other.
    project.write("ladder.toml", ladder("missing.mp4", TINY_RUNG));
    assert_eq!(project.try_build(&[]).status, 1);
    assert_eq!(json(&project, &["log", "--json"])[0]["ending"], "failed");
    let folder = project.path("cache/rivet/v3/log");
    fs::write(folder.join("20200101T000000Z-00000000.json"), "{").unwrap();
    assert_eq!(json(&project, &["log", "--json"]).as_array().unwrap().len(), 3);
}

#[test]
fn building_again_finds_what_differs_first() {
    let project = project();
    let build = project.build_with(&["--check"]);
    assert!(build.stdout.contains("produced the same bytes again"), "{}", build.stdout);
    // An encode that came out differently, once: all that follows from it is in the cache, too.
    let explain = |step: &str| json(&project, &["explain", "ladder.toml", step, "--json"])[0].clone();
    let cache = LocalCache::open(&project.path("cache/rivet")).unwrap();
    let key_of = |step: &str| EntryKey(explain(step)["key"].as_str().unwrap().parse().unwrap());
    let (wrong, right) = (key_of("tiny/1"), key_of("tiny/2"));
    let mut entry = cache.find_entry(&wrong).unwrap().unwrap();
    entry.result.blobs = cache.find_entry(&right).unwrap().unwrap().result.blobs;
    cache.put_entry(&wrong, &entry).unwrap();
    let check = project.try_build(&["--check"]);
    assert_eq!(check.status, 1, "{}", check.stdout);
    assert!(check.stdout.contains("tiny/1 (encode)") && check.stdout.contains("1 of "), "{}", check.stdout);
}

#[test]
fn a_trace_shows_slots_and_counters() {
    let project = project();
    let build = project.build_with(&["--jobs", "2", "--trace", "trace.json"]);
    let trace: Value =
        serde_json::from_str(&fs::read_to_string(project.path("trace.json")).unwrap()).unwrap();
    let events = trace.as_array().unwrap();
    let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(slices.len() as u64, build.ran_at_all());
    let mut rows: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for slice in &slices {
        let (start, length) = (slice["ts"].as_u64().unwrap(), slice["dur"].as_u64().unwrap());
        rows.entry(slice["tid"].as_u64().unwrap()).or_default().push((start, start + length));
    }
    assert!(rows.len() <= 2, "two slots");
    for row in rows.values_mut() {
        row.sort();
        assert!(row.windows(2).all(|pair| pair[0].1 <= pair[1].0), "a slot does one thing at a time");
    }
    for counter in ["steps", "memory", "cache look-ups"] {
        assert!(events.iter().any(|event| event["ph"] == "C" && event["name"] == counter), "{counter}");
    }
}
