//! Another program on the library: what it can put into whose cache, and how its builds share the machine.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{BUNNY_5S, FLOWER, Project, TINY_RUNG, files_under, ladder};
use rivet::housekeeping::Housekeeping;
use rivet::keys::{KeyFolder, PublicKey, SigningKey};
use rivet::{
    Access, Budget, BuildOptions, Event, Kind, Ladder, RemoteChoice, Session, SessionError, SessionOptions,
    Share, Summary, WorkerCommand, Workers,
};

/// Somebody with a cache and keys of their own.
struct User<'a> {
    project: &'a Project,
    name: &'static str,
    public: PublicKey,
}

impl<'a> User<'a> {
    fn new(project: &'a Project, name: &'static str) -> User<'a> {
        // A shared folder is there before it is a cache.
        fs::create_dir_all(project.path("remote")).unwrap();
        let key = SigningKey::generate().unwrap();
        let keys = KeyFolder::new(project.path(&format!("{name}/keys")));
        keys.keep(&key, false).unwrap();
        keys.trust(&key.public(), "own").unwrap();
        User { project, name, public: key.public() }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.project.path(&format!("{}/cache", self.name))
    }

    /// As the user runs all programs, with a remote that others write, too.
    fn options(&self) -> SessionOptions {
        let mut options = SessionOptions::default();
        options.cache_dir = Some(self.cache());
        options.keys = Some(KeyFolder::new(self.project.path(&format!("{}/keys", self.name))));
        let remote = format!("fs://{}", self.project.path("remote").display());
        options.remote = RemoteChoice::Url(remote.parse().unwrap());
        options.workers = Workers::Command(WorkerCommand::of_rivet(env!("CARGO_BIN_EXE_rivet").into()));
        options
    }

    fn build(&self, ladder: &Ladder) -> Summary {
        let session = Session::open(ladder, self.options()).unwrap();
        let built = session.build(ladder, &BuildOptions::default(), Arc::default(), &|_| {});
        let summary = built.unwrap();
        assert!(summary.succeeded(), "{:?}", summary.failures);
        summary
    }
}

fn parse(project: &Project, spec: &str) -> Ladder {
    rivet::spec::parse(spec, &project.path("ladder.toml")).unwrap()
}

fn encodes(summary: &Summary) -> (u64, u64) {
    let counts = summary.nodes[&Kind::Encode];
    (counts.ran, counts.cached)
}

fn entries(cache: &Path) -> usize {
    files_under(&cache.join("v2/actions")).len() + files_under(&cache.join("v2/blobs")).len()
}

#[cfg(feature = "stores")]
#[test]
fn what_a_spec_vouches_for_never_gets_into_the_users_own_cache() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "in.mp4");
    let spec = ladder("in.mp4", TINY_RUNG);
    let plain = parse(&project, &spec);
    let (eve, ann) = (User::new(&project, "eve"), User::new(&project, "ann"));
    let (ran, _) = encodes(&eve.build(&plain));
    assert!(ran > 0);

    // A pull request's spec names whoever wrote it.
    let proposed = parse(&project, &format!("{spec}\n[cache]\ntrusted-keys = [\"{}\"]\n", eve.public));
    let remote = files_under(&project.path("remote"));
    assert_eq!(encodes(&ann.build(&proposed)).0, 0, "all of it came from the remote");
    assert_eq!(entries(&ann.cache()), 0, "and none of it lies in her cache");
    assert!(files_under(&project.path("remote")) == remote, "nor did she sign any of it");

    // Looking after that spec's cache is not looking after hers.
    let proposed_house = Housekeeping::open(Some(&proposed), &ann.options()).unwrap();
    assert!(proposed_house.folder().starts_with(ann.cache().join("isolated")));
    assert!(proposed_house.stats().unwrap().entries > 0);
    assert_eq!(Housekeeping::open(None, &ann.options()).unwrap().stats().unwrap().entries, 0);

    // A session that was opened for her own spec does not learn keys from another.
    let session = Session::open(&plain, ann.options()).unwrap();
    let plan = session.plan(&proposed, Arc::default()).unwrap();
    assert!(plan.has_to_run(), "what Eve signed counts for nothing here");
    assert_eq!(session.cache_folder(), ann.cache());
    drop(session);
    assert_eq!(encodes(&ann.build(&plain)), (ran, 0));
}

#[cfg(feature = "stores")]
#[test]
fn what_nobody_signed_never_gets_into_the_users_own_cache() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "in.mp4");
    let plain = parse(&project, &ladder("in.mp4", TINY_RUNG));
    let (eve, ann) = (User::new(&project, "eve"), User::new(&project, "ann"));
    eve.build(&plain);
    let mut options = ann.options();
    options.insecure_unsigned = true;
    let session = Session::open(&plain, options).unwrap();
    assert!(session.warnings()[0].contains("whoever can write to"), "{:?}", session.warnings());
    let warned = AtomicUsize::new(0);
    let observe = |event: &Event| {
        let is_it = matches!(event, Event::Warning { message, .. } if session.warnings().contains(message));
        warned.fetch_add(usize::from(is_it), Ordering::Relaxed);
    };
    let summary = session.build(&plain, &BuildOptions::default(), Arc::default(), &observe).unwrap();
    assert_eq!((encodes(&summary).0, warned.into_inner()), (0, 1));
    assert_eq!(entries(&ann.cache()), 0);
}

#[test]
fn a_session_for_looking_builds_nothing() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "in.mp4");
    let ladder = parse(&project, &ladder("in.mp4", TINY_RUNG));
    let mut options = SessionOptions::default();
    options.cache_dir = Some(project.path("cache"));
    options.access = Access::ReadOnly;
    let session = Session::open(&ladder, options).unwrap();
    assert!(session.plan(&ladder, Arc::default()).unwrap().has_to_run());
    let built = session.build(&ladder, &BuildOptions::default(), Arc::default(), &|_| {});
    assert!(matches!(built, Err(SessionError::ReadOnly)), "{:?}", built.err());
    assert!(!project.path("cache").exists() && !project.path("out").exists());
}

/// Steps that run, of all builds of a test, and the most that ran at a time.
#[derive(Default)]
struct Running {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Running {
    /// `begun` are the build's steps that run. Windows of audio are encoded several in one slot, and are not
    /// counted.
    fn observe(&self, event: &Event, begun: &mut HashSet<String>) {
        match event {
            Event::Started { kind, node, .. } if *kind != Kind::Audio => {
                begun.insert(node.clone());
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
            }
            Event::Finished { node, .. } | Event::Failed { node, .. } if begun.remove(node) => {
                self.now.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

#[test]
fn builds_at_once_run_no_more_steps_than_the_session_has_slots() {
    const SLOTS: usize = 3;
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "a.mp4");
    project.copy_clip(FLOWER, "b.mp4");
    let specs = ["a", "b"].map(|name| {
        let spec = ladder(&format!("{name}.mp4"), TINY_RUNG);
        parse(&project, &spec.replace("\"out\"", &format!("\"out-{name}\"")))
    });
    let mut options = SessionOptions::default();
    options.cache_dir = Some(project.path("cache"));
    options.workers = Workers::InProcess;
    options.budget = Budget::new(SLOTS, 512 << 20);
    let session = Session::open(&specs[0], options).unwrap();
    let (running, both) = (Running::default(), Barrier::new(2));
    thread::scope(|scope| {
        for (ladder, slots) in specs.iter().zip([1, 2]) {
            let (session, running, both) = (&session, &running, &both);
            scope.spawn(move || {
                let mut options = BuildOptions::default();
                options.share = Share { slots: Some(slots), ..Share::default() };
                let (met, begun) = (Cell::new(false), RefCell::default());
                let observe = |event: &Event| {
                    // Neither goes on before the other has begun: both have their part of the slots.
                    if !met.replace(true) {
                        both.wait();
                    }
                    running.observe(event, &mut begun.borrow_mut());
                };
                let summary = session.build(ladder, &options, Arc::default(), &observe).unwrap();
                assert!(summary.succeeded(), "{:?}", summary.failures);
            });
        }
    });
    let most = running.most.into_inner();
    assert!((1..=SLOTS).contains(&most), "{most}");
    assert!(project.path("out-a/master.m3u8").exists() && project.path("out-b/master.m3u8").exists());
}
