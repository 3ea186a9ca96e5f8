//! A publish that fails or is stopped at any step. A viewer must find a whole stream after it,
//! and the next publish must finish the job.

use proptest::prelude::*;

use super::*;

#[test]
fn content_that_fails_changes_nothing() {
    let folder = scratch();
    let folder = folder.path();
    let old = Package::new(&[("360p", &[1, 2]), ("720p", &[3])]);
    old.publish(folder).unwrap();
    let mut new = Package::new(&[("360p", &[2, 4]), ("480p", &[5])]);
    // Also a file that is replaced under its name.
    new.add("360p/init.mp4", b"another".to_vec(), Role::Media);
    for fault in FAULTS {
        let mut n = 0;
        loop {
            match new.publish_failing(folder, n, fault) {
                Ok(_) => break,
                Err(PublishError::Content { .. }) => assert!(matches!(fault, Fault::Open)),
                Err(PublishError::WrongContent { .. }) => assert!(matches!(fault, Fault::Inline)),
                Err(PublishError::Part { source, .. }) => {
                    let is_of = match fault {
                        Fault::Lost => matches!(source, ComposeError::Missing(_)),
                        Fault::Read => matches!(source, ComposeError::Unreadable { .. }),
                        _ => matches!(source, ComposeError::Damaged(_)),
                    };
                    assert!(is_of && !matches!(fault, Fault::Open | Fault::Inline), "{source}");
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(visible(folder), old.visible());
            assert!(is_current(folder, old.list().digest()));
            assert_eq!(own_files(folder), [".rivet-published.json", ".rivet.lock"]);
            n += 1;
        }
        assert_eq!(n, 7, "every missing file failed once");
        assert_eq!(visible(folder), new.visible());
        old.publish(folder).unwrap();
    }
}

#[test]
fn a_kill_at_any_step_leaves_a_stream_and_is_made_good() {
    let old = Package::new(&[("360p", &[1, 2]), ("720p", &[3])]);
    let new = Package::new(&[("360p", &[2, 4]), ("480p", &[5, 6])]);
    kill_at_any_step(&old, &new);
    // So little changes that the record is not written anew.
    let many: Vec<u32> = (1..20).collect();
    let old = Package::new(&[("360p", &many), ("720p", &[3])]);
    let new = Package::new(&[("360p", &many[1..]), ("480p", &[3])]);
    kill_at_any_step(&old, &new);
}

fn kill_at_any_step(old: &Package, new: &Package) {
    let mut stages = [0; 3];
    for steps in 0.. {
        let folder = scratch();
        let folder = folder.path();
        old.publish(folder).unwrap();
        let finished = killed_after(steps, folder, new).is_some();
        assert_playable(folder);
        let files = visible(folder);
        let stage = match () {
            () if files == old.visible() => 0,
            () if files["master.m3u8"] == old.visible()["master.m3u8"] => 1,
            () => 2,
        };
        stages[stage] += 1;
        // The next build may want the new package, the old one, or a third.
        let third = Package::new(&[("720p", &[3, 6])]);
        for next in [new, old, &third, new] {
            next.publish(folder).unwrap();
            assert_eq!(visible(folder), next.visible(), "after a kill at step {steps}");
            assert_eq!(own_files(folder), [".rivet-published.json", ".rivet.lock"]);
            assert!(is_current(folder, next.list().digest()));
        }
        assert!(!folder.join("720p").exists());
        if finished {
            break;
        }
    }
    assert!(stages.iter().all(|&count| count > 2), "{stages:?}");
}

#[test]
fn a_kill_of_the_first_publish_is_made_good() {
    let package = Package::new(&[("360p", &[1, 2])]);
    for steps in 0.. {
        let root = scratch();
        let folder = root.path().join("a/b");
        let finished = killed_after(steps, &folder, &package).is_some();
        assert_playable(&folder);
        package.publish(&folder).unwrap();
        assert_eq!(visible(&folder), package.visible(), "after a kill at step {steps}");
        if finished {
            break;
        }
    }
}

#[test]
fn a_publish_goes_on_where_a_killed_one_stopped() {
    let package = Package::new(&[("360p", &[1, 2, 3, 4])]);
    let mut fewest = u32::MAX;
    for steps in 0.. {
        let folder = scratch();
        if killed_after(steps, folder.path(), &package).is_some() {
            break;
        }
        let mut store = Store::of(&package);
        publish(folder.path(), &package.list(), &mut store).unwrap();
        assert!(store.asked <= fewest, "step {steps}");
        fewest = store.asked;
    }
    assert_eq!(fewest, 0);
}

/// What befalls one publish.
#[derive(Clone, Copy, Debug)]
enum Fate {
    None,
    Content(u32, usize),
    Kill(u32),
    /// A file of the package, by its number, is damaged or lost before.
    Damage(usize, bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::None),
        3 => (0u32..12, 0..FAULTS.len()).prop_map(|(n, fault)| Fate::Content(n, fault)),
        4 => (0u32..70).prop_map(Fate::Kill),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, lost)| Fate::Damage(n, lost)),
    ]
}

fn package() -> impl Strategy<Value = Package> {
    let rung = |name| {
        proptest::option::of(proptest::collection::vec(0u32..6, 0..4))
            .prop_map(move |segments| segments.map(|segments| (name, segments)))
    };
    (rung("240p"), rung("360p"), rung("720p")).prop_map(|(a, b, c)| {
        let rungs: Vec<_> = [a, b, c].into_iter().flatten().collect();
        Package::new(&rungs.iter().map(|(name, list)| (*name, &list[..])).collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn no_history_of_failures_breaks_a_stream(
        history in proptest::collection::vec((package(), fate()), 1..7),
    ) {
        let folder = scratch();
        let folder = folder.path();
        fs::write(folder.join(".rivet.lock"), "").unwrap();
        for (package, fate) in &history {
            let before = visible(folder);
            let result = match *fate {
                Fate::None => Some(package.publish(folder)),
                Fate::Content(n, fault) => Some(package.publish_failing(folder, n, FAULTS[fault])),
                Fate::Kill(steps) => killed_after(steps, folder, package),
                Fate::Damage(n, lost) => {
                    if let Some(path) = before.keys().nth(n % before.len().max(1)) {
                        fs::remove_file(folder.join(path)).unwrap();
                        if !lost {
                            fs::write(folder.join(path), "damaged by something else").unwrap();
                        }
                    }
                    Some(package.publish(folder))
                }
            };
            assert_playable(folder);
            match result {
                Some(Ok(_)) => {
                    prop_assert_eq!(visible(folder), package.visible());
                    prop_assert!(is_current(folder, package.list().digest()));
                }
                Some(Err(_)) => prop_assert_eq!(visible(folder), before),
                None => {}
            }
        }
        let last = &history[history.len() - 1].0;
        last.publish(folder).unwrap();
        prop_assert_eq!(visible(folder), last.visible());
        prop_assert_eq!(own_files(folder), [".rivet-published.json", ".rivet.lock"]);
    }
}
