//! What a build had of its remote cache, in a line or two.

use rivet::RemoteReport;

use super::text::{bytes, count};

/// Lines that each end; none where there was nothing to ask or to tell.
pub fn remote(report: &RemoteReport) -> String {
    let mut parts = Vec::new();
    let distrusted: u64 = report.distrusted.values().sum();
    let not_found = report.misses + report.incomplete + distrusted;
    if report.hits > 0 || not_found > 0 {
        parts.push(format!("{} of {} found", report.hits, count(report.hits + not_found, "result")));
    }
    if report.fetched_blobs > 0 {
        parts.push(format!("{} fetched", bytes(report.fetched_bytes)));
    }
    if report.stored_entries > 0 {
        let stored = count(report.stored_entries, "result");
        parts.push(format!("{stored} stored ({})", bytes(report.stored_bytes)));
    }
    if report.already_there > 0 {
        parts.push(format!("{} already there", report.already_there));
    }
    if report.not_stored > 0 {
        parts.push(format!("{} not stored", report.not_stored));
    }
    if let Some(why) = not_believed(report) {
        parts.push(format!("{distrusted} not believed ({why})"));
    }
    for (number, what) in [(report.incomplete, "incomplete"), (report.corrupt, "damaged")] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    if report.errors > 0 {
        parts.push(format!("{} failed", count(report.errors, "call")));
    }
    if report.unfit > 0 {
        parts.push(format!("{} could not be read or written", report.unfit));
    }
    if parts.is_empty() {
        parts.push("nothing was asked of it".to_owned());
    }
    let mut text = format!("remote cache {}: {}\n", report.remote, parts.join(", "));
    if let Some(why) = &report.went_on_without {
        text += &format!("  went on without it: {why}\n");
    }
    if let Some(hint) = unknown_key(report) {
        text += &format!("  {hint}\n");
    }
    if report.not_stored > report.others {
        text += "  `rivet cache push LADDER` stores the rest later\n";
    }
    // Who only finds things has nothing to store, and who is set up to read knows it.
    if let Some(why) = report.read_only.as_ref().filter(|_| not_found > 0 && !report.is_reader) {
        text += &format!("  nothing was stored: {why}\n");
    }
    text
}

/// Entries that were not believed, by why; `None` where there were none.
pub fn not_believed(report: &RemoteReport) -> Option<String> {
    let reasons = report.distrusted.iter().map(|(reason, number)| format!("{number} {reason}"));
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

/// What to do about entries of somebody who is not trusted.
pub fn unknown_key(report: &RemoteReport) -> Option<String> {
    let key = report.unknown_key.as_ref()?;
    Some(format!("unknown key {key}: `rivet cache trust` that key if it is your team's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_not_told() {
        let report = RemoteReport { remote: "fs:///mnt".to_owned(), ..RemoteReport::default() };
        assert_eq!(remote(&report), "remote cache fs:///mnt: nothing was asked of it\n");
        let report = RemoteReport { hits: 3, misses: 1, fetched_blobs: 2, fetched_bytes: 1500, ..report };
        assert_eq!(remote(&report), "remote cache fs:///mnt: 3 of 4 results found, 1.50 kB fetched\n");
    }

    #[test]
    fn what_went_wrong_is_told_apart() {
        let report = RemoteReport {
            remote: "redis://h/".to_owned(),
            misses: 5,
            errors: 2,
            distrusted: [("unsigned".into(), 2), ("unknown key".into(), 1)].into(),
            corrupt: 1,
            went_on_without: Some("nobody answers".to_owned()),
            ..RemoteReport::default()
        };
        let told = remote(&report);
        for part in [
            "0 of 8 results found",
            "3 not believed (1 unknown key, 2 unsigned)",
            "1 damaged",
            "2 calls failed",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(told.ends_with("  went on without it: nobody answers\n"), "{told}");
    }

    #[test]
    fn what_helps_is_told() {
        let report = RemoteReport {
            stored_entries: 2,
            already_there: 3,
            not_stored: 1,
            others: 1,
            unknown_key: Some("rivet-ed25519:00".to_owned()),
            ..RemoteReport::default()
        };
        let told = remote(&report);
        assert!(told.contains("2 results stored (0 B), 3 already there, 1 not stored"), "{told}");
        assert!(told.contains("unknown key rivet-ed25519:00: `rivet cache trust`"), "{told}");
        assert!(!told.contains("cache push"), "{told}");
        let told = remote(&RemoteReport { others: 0, ..report });
        assert!(told.contains("`rivet cache push LADDER` stores the rest later"), "{told}");
    }
}
