//! What a build had of its remote cache, in a line or two.

use rivet::cache::RemoteReport;

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
    if report.not_stored > 0 {
        parts.push(format!("{} not stored", report.not_stored));
    }
    if distrusted > 0 {
        let reasons: Vec<String> =
            report.distrusted.iter().map(|(reason, number)| format!("{number} {reason}")).collect();
        parts.push(format!("{distrusted} not believed ({})", reasons.join(", ")));
    }
    for (number, what) in [(report.incomplete, "incomplete"), (report.corrupt, "damaged")] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    if report.errors > 0 {
        parts.push(format!("{} failed", count(report.errors, "call")));
    }
    if parts.is_empty() {
        parts.push("nothing was asked of it".to_owned());
    }
    let mut text = format!("remote cache {}: {}\n", report.remote, parts.join(", "));
    if let Some(why) = &report.went_on_without {
        text += &format!("  went on without it: {why}\n");
    }
    // Who only finds things has nothing to store.
    if let Some(why) = report.read_only.as_ref().filter(|_| not_found > 0) {
        text += &format!("  nothing was stored: {why}\n");
    }
    text
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
            distrusted: [("unsigned", 2), ("unknown key", 1)].into(),
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
}
