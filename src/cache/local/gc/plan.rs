//! What a cleaning would remove: rules applied to what is there, without touching anything.
//!
//! The least recently used go first; of those used at the same time, mostly one title's, what was
//! made of others before what it was made of, and then what takes least to make again for its bytes:
//! a segment before its encode. So what stays of anything can be used without what went.

use std::cmp::Reverse;

use crate::cache::local::marks::{Marks, Nanos};

/// Blobs that no entry names are left alone for so long: their entries may be about to come.
pub(super) const ORPHANED_AFTER: Nanos = 24 * 60 * 60 * 1_000_000_000;

pub(super) struct Rules {
    pub now: Nanos,
    /// When the first of the running builds began: what was used or written since stays.
    pub builds_since: Option<Nanos>,
    /// Nanoseconds since its last use after which an entry goes.
    pub max_age: Option<Nanos>,
    /// What may stay in all, and what of it the stats and the log take.
    pub max_bytes: Option<u64>,
    pub other_bytes: u64,
}

impl Rules {
    /// Whether a running build may rest on what was used or written at that time.
    pub(super) fn in_use(&self, time: Nanos) -> bool {
        self.builds_since.is_some_and(|since| time >= since)
    }

    fn is_old(&self, used: Nanos) -> bool {
        self.max_age.is_some_and(|age| used < self.now - age)
    }

    /// Whether an unreferenced blob may go. `was_named`: its entries have just gone.
    pub(super) fn may_go(&self, modified: Nanos, was_named: bool) -> bool {
        !self.in_use(modified) && (was_named || modified < self.now - ORPHANED_AFTER)
    }
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Entries that go, in order.
    pub entries: Vec<u32>,
    /// Blobs that are unreferenced once those have gone, and may go then.
    pub blobs: Vec<u32>,
}

/// How many of the entries that `stays` lets stay name each blob.
pub(super) fn names(marks: &Marks, stays: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut names = vec![0u32; marks.blobs.len()];
    for entry in (0..marks.entries.len()).filter(|&entry| stays(entry)) {
        for &blob in marks.blobs_of(entry) {
            names[blob as usize] += 1;
        }
    }
    names
}

/// `pinned` marks the entries that stay whatever their age.
pub(super) fn plan(marks: &Marks, pinned: &[bool], rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let mut names = names(marks, |_| true);
    let all = marks.entries.iter().map(|entry| entry.bytes).chain(marks.blobs.iter().map(|blob| blob.bytes));
    let mut left = all.sum::<u64>().saturating_add(rules.other_bytes);
    let free = |blob: usize, was_named: bool, plan: &mut Plan| {
        let found = &marks.blobs[blob];
        if !rules.may_go(found.modified, was_named) {
            return 0;
        }
        plan.blobs.push(blob as u32);
        found.bytes
    };
    for blob in (0..marks.blobs.len()).filter(|&blob| names[blob] == 0) {
        left -= free(blob, false, &mut plan);
    }
    for entry in in_order(marks, pinned, rules) {
        let at = entry as usize;
        let too_much = rules.max_bytes.is_some_and(|most| left > most);
        if !too_much && !rules.is_old(marks.entries[at].used) {
            break;
        }
        plan.entries.push(entry);
        left -= marks.entries[at].bytes;
        for &blob in marks.blobs_of(at) {
            names[blob as usize] -= 1;
            if names[blob as usize] == 0 {
                left -= free(blob as usize, true, &mut plan);
            }
        }
    }
    plan
}

/// The entries that may go, the first to go first.
fn in_order(marks: &Marks, pinned: &[bool], rules: &Rules) -> Vec<u32> {
    let mut order: Vec<u32> = (0..marks.entries.len() as u32)
        .filter(|&entry| !pinned[entry as usize] && !rules.in_use(marks.entries[entry as usize].used))
        .collect();
    order.sort_unstable_by_key(|&at| {
        let entry = &marks.entries[at as usize];
        let blobs = marks.blobs_of(at as usize).iter().map(|&blob| marks.blobs[blob as usize].bytes);
        let bytes = entry.bytes.saturating_add(blobs.sum()).max(1);
        // Nanoseconds a byte.
        let to_make = u128::from(entry.wall_ms) * 1_000_000 / u128::from(bytes);
        (entry.used, Reverse(entry.height), to_make, at)
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::local::marks::{Blob, Read};
    use crate::cache::{Digest, EntryKey};
    use proptest::prelude::*;

    /// An entry of a made-up cache: when it was used, which of those before it went into it, which
    /// blobs it names.
    type Made = (u16, Vec<prop::sample::Index>, Vec<prop::sample::Index>, u8);

    const BLOBS: usize = 40;
    const NOW: Nanos = 200_000_000_000_000;

    /// A time of a made-up cache: a quarter of an hour a unit, the last of them just now.
    fn time(units: u16) -> Nanos {
        NOW - Nanos::from(200 - units) * 900_000_000_000
    }

    fn marks(made: &[Made], blob_times: &[u16]) -> Marks {
        let name = |what: &str, number: usize| Digest::of(format!("{what} {number}").as_bytes());
        let mut blobs: Vec<Blob> = (0..BLOBS)
            .map(|number| Blob {
                name: name("blob", number),
                modified: time(blob_times[number]),
                length: 10 + number as u64,
                bytes: 10 + number as u64,
            })
            .collect();
        blobs.sort_by_key(|blob| blob.name);
        let mut entries: Vec<Read> = made
            .iter()
            .enumerate()
            .map(|(number, (used, inputs, blobs, wall))| Read {
                key: EntryKey(name("key", number)),
                modified: time(*used),
                bytes: 7,
                wall_ms: u64::from(*wall),
                kind: String::new(),
                // The first has none, and some name what is not there.
                inputs: inputs.iter().map(|input| EntryKey(name("key", input.index(number + 1)))).collect(),
                blobs: blobs.iter().map(|blob| name("blob", blob.index(BLOBS + 3))).collect(),
            })
            .collect();
        // Nothing goes into itself.
        entries.iter_mut().for_each(|entry| entry.inputs.retain(|input| *input != entry.key));
        entries.sort_by_key(|entry| entry.key);
        Marks::new(entries, blobs, NOW)
    }

    fn caches() -> impl Strategy<Value = (Vec<Made>, Vec<u16>)> {
        let indexes = |most| prop::collection::vec(any::<prop::sample::Index>(), 0..most);
        let entry = (0..=200u16, indexes(4), indexes(3), any::<u8>());
        (prop::collection::vec(entry, 1..60), prop::collection::vec(0..=200u16, BLOBS))
    }

    proptest! {
        /// Nothing that a pinned entry, or one used since a build began, was made of goes, nor a blob
        /// that anything names that stays; what stays has all its inputs; and no more goes than must.
        #[test]
        fn what_is_needed_stays(
            (made, blob_times) in caches(),
            pins in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            since in prop::option::of(0..=200u16),
            max_age in prop::option::of(0..=220u16),
            max_bytes in prop::option::of(0..3000u64),
        ) {
            let marks = marks(&made, &blob_times);
            let mut pinned = vec![false; marks.entries.len()];
            marks.mark(pins.iter().map(|pin| pin.index(made.len())), &mut pinned);
            let rules = Rules {
                now: NOW,
                builds_since: since.map(time),
                max_age: max_age.map(|age| Nanos::from(age) * 900_000_000_000),
                max_bytes,
                other_bytes: 5,
            };
            let plan = plan(&marks, &pinned, &rules);
            let mut gone = vec![false; marks.entries.len()];
            for &entry in &plan.entries {
                prop_assert!(!std::mem::replace(&mut gone[entry as usize], true), "gone twice");
            }
            let stays = |entry: usize| !gone[entry];
            for entry in (0..marks.entries.len()).filter(|&entry| stays(entry)) {
                for &input in marks.inputs_of(entry) {
                    prop_assert!(stays(input as usize), "an input has gone");
                    prop_assert!(marks.entries[input as usize].used >= marks.entries[entry].used);
                    prop_assert!(marks.entries[input as usize].height < marks.entries[entry].height);
                }
            }
            let mut needed = pinned.clone();
            let used = (0..marks.entries.len()).filter(|&at| rules.in_use(marks.entries[at].modified));
            marks.mark(used, &mut needed);
            prop_assert!((0..gone.len()).all(|entry| stays(entry) || !needed[entry]));

            let names = names(&marks, stays);
            let mut left: u64 = 5 + marks.entries.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(e, _)| e.bytes).sum::<u64>();
            for (at, blob) in marks.blobs.iter().enumerate() {
                let goes = plan.blobs.contains(&(at as u32));
                prop_assert!(!goes || names[at] == 0, "a blob that is named has gone");
                prop_assert!(!goes || !rules.in_use(blob.modified));
                left += if goes { 0 } else { blob.bytes };
            }
            // The last that went had to: it was too old, or there still was too much.
            if let Some(&last) = plan.entries.last() {
                let freed = |blob: &&u32| names[**blob as usize] == 0 && plan.blobs.contains(blob);
                let blobs: u64 = marks.blobs_of(last as usize).iter().filter(freed).map(|&b| marks.blobs[b as usize].bytes).sum();
                let before = left + marks.entries[last as usize].bytes + blobs;
                prop_assert!(max_bytes.is_some_and(|most| before > most) || rules.is_old(marks.entries[last as usize].used));
            }
            // Where there is too much still, nothing is left that may go.
            if max_bytes.is_some_and(|most| left > most) {
                let may_go = |entry: usize| stays(entry) && !pinned[entry] && !rules.in_use(marks.entries[entry].used);
                prop_assert!(!(0..gone.len()).any(may_go));
            }
            // Age knows no exception but those.
            for entry in (0..gone.len()).filter(|&entry| stays(entry) && !needed[entry]) {
                prop_assert!(!rules.is_old(marks.entries[entry].used));
            }
        }
    }

    #[test]
    fn the_order_within_a_title() {
        let name = |number: u8| EntryKey(Digest([number; 32]));
        let entry = |number: u8, used: u16, wall_ms: u64, inputs: &[u8]| Read {
            key: name(number),
            modified: time(used),
            bytes: 1_000,
            wall_ms,
            kind: String::new(),
            inputs: inputs.iter().map(|&input| name(input)).collect(),
            blobs: Vec::new(),
        };
        // Two encodes, their segments, the pack, all used when the pack was; and something older.
        let (quick, slow, segments, pack, other) = (1, 2, [3, 4], 5, 6);
        let made = vec![
            entry(quick, 1, 10, &[]),
            entry(slow, 1, 900, &[]),
            entry(segments[0], 1, 2, &[quick]),
            entry(segments[1], 1, 1, &[slow]),
            entry(pack, 150, 1, &segments),
            entry(other, 100, 5_000, &[]),
        ];
        let marks = Marks::new(made, Vec::new(), NOW);
        let rules = Rules { now: NOW, builds_since: None, max_age: None, max_bytes: Some(0), other_bytes: 0 };
        let order: Vec<u8> = in_order(&marks, &[false; 6], &rules)
            .into_iter()
            .map(|at| marks.entries[at as usize].key.0.0[0])
            .collect();
        assert_eq!(order, [other, pack, segments[1], segments[0], quick, slow]);
    }

    #[test]
    fn forged_circles_are_walked_once() {
        let name = |number: u8| EntryKey(Digest([number; 32]));
        let entry = |number: u8, input: u8| Read {
            key: name(number),
            modified: time(u16::from(number)),
            bytes: 1,
            wall_ms: 0,
            kind: String::new(),
            inputs: vec![name(input)],
            blobs: Vec::new(),
        };
        let marks = Marks::new(vec![entry(1, 2), entry(2, 3), entry(3, 1), entry(4, 4)], Vec::new(), NOW);
        assert!(marks.entries[..3].iter().all(|entry| entry.used == time(3)));
        let mut marked = [false; 4];
        marks.mark([0], &mut marked);
        assert_eq!(marked, [true, true, true, false]);
    }
}
