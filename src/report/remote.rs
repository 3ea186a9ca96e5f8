//! A build's use of its remote cache, in a line or two.

use rivet::RemoteReport;

use super::text::{bytes, count};

/// Lines, each with its line break.
pub fn remote(report: &RemoteReport) -> String {
    let mut parts = Vec::new();
    let not_trusted: u64 = report.rejected.values().sum();
    let not_found = report.misses + report.incomplete + not_trusted;
    if report.hits + not_found > 0 {
        parts.push(format!("{} of {} found", report.hits, entries(report.hits + not_found)));
    }
    if report.fetched_blobs > 0 {
        parts.push(format!("{} fetched", bytes(report.fetched_bytes)));
    }
    if report.stored_entries > 0 {
        parts.push(format!("{} uploaded ({})", entries(report.stored_entries), bytes(report.stored_bytes)));
    }
    if report.already_there > 0 {
        parts.push(format!("{} already there", report.already_there));
    }
    if report.not_stored > 0 {
        parts.push(format!("{} not uploaded", report.not_stored));
    }
    if let Some(why) = rejected(report) {
        parts.push(format!("{not_trusted} rejected: {why}"));
    }
    for (number, what) in [(report.incomplete, "incomplete"), (report.corrupt, "corrupt")] {
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
        parts.push("not contacted: everything was in the local cache".to_owned());
    }
    let mut text = format!("remote cache {}: {}\n", report.remote, parts.join(", "));
    if let Some(why) = &report.went_on_without {
        text += &format!("  no longer used after this: {why}\n");
    }
    if let Some(hint) = unknown_key(report) {
        text += &format!("  {hint}\n");
    }
    if report.not_stored > report.others {
        text += "  `rivet cache push LADDER` uploads the rest later\n";
    }
    // A build that found everything has nothing to upload, and one that is set up to read needs no reminder.
    if let Some(why) = report.read_only.as_ref().filter(|_| not_found > 0 && !report.is_reader) {
        text += &format!("  nothing uploaded ({why})\n");
    }
    text
}

/// A number of cache entries.
pub fn entries(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

/// Why entries were rejected, e.g. `signed by an untrusted key`, with numbers where there are several reasons;
/// `None` if none were.
pub fn rejected(report: &RemoteReport) -> Option<String> {
    fn words(reason: &str) -> &str {
        match reason {
            "unknown key" => "signed by an untrusted key",
            "wrong signature" => "with a wrong signature",
            other => other,
        }
    }
    let reasons = report.rejected.iter().filter(|&(_, &number)| number > 0);
    let reasons: Vec<(u64, &str)> = reasons.map(|(reason, &number)| (number, words(reason))).collect();
    match reasons.as_slice() {
        [] => None,
        [(_, only)] => Some((*only).to_owned()),
        several => {
            let several = several.iter().map(|(number, reason)| format!("{number} {reason}"));
            Some(several.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What to do about entries with an untrusted key.
pub fn unknown_key(report: &RemoteReport) -> Option<String> {
    let key = report.unknown_key.as_ref()?;
    Some(format!("untrusted key {key}: `rivet cache trust` it if it is your team's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_left_out() {
        let report = RemoteReport { remote: "fs:///mnt".to_owned(), ..RemoteReport::default() };
        assert_eq!(
            remote(&report),
            "remote cache fs:///mnt: not contacted: everything was in the local cache\n"
        );
        let report = RemoteReport { hits: 3, misses: 1, fetched_blobs: 2, fetched_bytes: 1500, ..report };
        assert_eq!(remote(&report), "remote cache fs:///mnt: 3 of 4 entries found, 1.50 kB fetched\n");
    }

    #[test]
    fn what_went_wrong_is_counted_by_kind() {
        let report = RemoteReport {
            remote: "redis://h/".to_owned(),
            misses: 5,
            errors: 2,
            rejected: [("unsigned".into(), 2), ("unknown key".into(), 1)].into(),
            corrupt: 1,
            went_on_without: Some("no answer".to_owned()),
            ..RemoteReport::default()
        };
        let text = remote(&report);
        for part in [
            "0 of 8 entries found",
            "3 rejected: 1 signed by an untrusted key, 2 unsigned",
            "1 corrupt",
            "2 calls failed",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let only = RemoteReport { rejected: [("unknown key".into(), 62)].into(), ..RemoteReport::default() };
        assert!(remote(&only).contains("62 rejected: signed by an untrusted key"), "{}", remote(&only));
        assert!(text.ends_with("  no longer used after this: no answer\n"), "{text}");
    }

    #[test]
    fn what_helps_is_said() {
        let report = RemoteReport {
            stored_entries: 2,
            already_there: 3,
            not_stored: 1,
            others: 1,
            unknown_key: Some("rivet-ed25519:00".to_owned()),
            ..RemoteReport::default()
        };
        let text = remote(&report);
        assert!(text.contains("2 entries uploaded (0 B), 3 already there, 1 not uploaded"), "{text}");
        assert!(text.contains("untrusted key rivet-ed25519:00: `rivet cache trust` it"), "{text}");
        assert!(!text.contains("cache push"), "{text}");
        let text = remote(&RemoteReport { others: 0, ..report });
        assert!(text.contains("`rivet cache push LADDER` uploads the rest later"), "{text}");
    }
}
