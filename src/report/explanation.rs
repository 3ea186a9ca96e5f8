//! Why a step runs or not, as text.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use rivet::{Explanation, Kind, PublishFacts, SourceFacts, Verdict};

use super::text::{bytes, count, duration};

/// A long list is cut after this many.
const MAX_NAMES: usize = 12;

/// One step with the fields of its key: those that differ from the last build are marked with `*`.
pub fn explanation(step: &Explanation, several_titles: bool) -> String {
    let mut text = String::new();
    let title = if several_titles { format!("{}:", step.title) } else { String::new() };
    let verdict = match (step.verdict, step.kind) {
        (Verdict::Cached, Kind::Source) => "current: its digest is known",
        (Verdict::Cached, Kind::Publish) => "current: the output folder is as it should be",
        (Verdict::Cached, _) => "cached: its result is in the cache",
        (Verdict::Run, Kind::Source) => "runs: the file has to be read",
        (Verdict::Run, Kind::Publish) => "runs: the output folder is not as it should be",
        (Verdict::Run, _) => "runs: the cache has no entry under its key",
        (Verdict::MayRun, _) => "may run: steps that it needs run first",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{title}{} ({}), {verdict}", step.node, step.kind.name());
    let _ = writeln!(text, "  is      {}", step.about);
    if let Some(key) = &step.key {
        let _ = writeln!(text, "  key     {key}");
    }
    if let Some(result) = &step.result {
        let _ = writeln!(
            text,
            "  result  {}, {}, built {} in {}{}",
            short(&result.digest),
            bytes(result.bytes),
            time(result.made_at),
            duration(result.wall_ms as f64 / 1000.0),
            if result.by.is_empty() { String::new() } else { format!(" by {}", result.by) },
        );
    }
    if let Some(facts) = &step.source {
        source(&mut text, facts);
    }
    if let Some(facts) = &step.publish {
        publish(&mut text, facts);
    }
    match &step.last {
        None => {
            let _ = writeln!(text, "  last    the build log has no finished build of this spec");
        }
        Some(last) => {
            let when = format!("{} ({})", last.build, time(last.started));
            let _ = match (&last.key, &step.key) {
                _ if step.source.is_some() || step.publish.is_some() => writeln!(text, "  last    {when}"),
                (None, _) => {
                    writeln!(text, "  last    {when}: it had no such step, or the cache has lost its record")
                }
                (Some(key), Some(now)) if key == now => writeln!(text, "  last    {when}: the same key"),
                (Some(key), _) => writeln!(text, "  last    {when}: key {key}"),
            };
            if let Some(place) = &last.moved_from {
                let _ = writeln!(text, "          then its content was step {place}");
            }
        }
    }
    let names = step.fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
    for field in &step.fields {
        let mark = if field.differs { '*' } else { ' ' };
        let now = field.now.as_deref().unwrap_or("(no such field)");
        let was = match (&field.last, field.differs) {
            (Some(last), true) => format!("   was {last}"),
            (None, true) => "   was not there".to_owned(),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {mark} {:<names$}  {now}{was}", field.name);
    }
    for (what, steps) in [("needs", &step.needs), ("needed by", &step.needed_by)] {
        if !steps.is_empty() {
            let shown = steps.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
            let more = steps.len().saturating_sub(MAX_NAMES);
            let more = if more > 0 { format!(", and {}", count(more as u64, "more")) } else { String::new() };
            let _ = writeln!(text, "  {what}: {shown}{}", more.trim_end_matches('s'));
        }
    }
    text
}

fn source(text: &mut String, facts: &SourceFacts) {
    let size = facts.size.map_or_else(|| "not there".to_owned(), bytes);
    let _ = writeln!(text, "  file    {}, {size}", facts.path.display());
    if let Some(digest) = &facts.digest {
        let was = match &facts.last_digest {
            Some(last) if last == digest => ", as in the last build".to_owned(),
            Some(last) => format!("   was {}", short(last)),
            None => String::new(),
        };
        let _ = writeln!(text, "  digest  {}{was}", short(digest));
    }
    let what = if facts.must_be_read { "needed: " } else { "not needed: " };
    let _ = writeln!(text, "  reading {what}{}", facts.why);
}

fn publish(text: &mut String, facts: &PublishFacts) {
    let recorded = facts.recorded.map_or_else(String::new, |files| {
        let unfinished = if files > 0 && !facts.finished { "; the last publish did not end" } else { "" };
        format!(": {} recorded{unfinished}", count(files as u64, "file"))
    });
    let _ = writeln!(text, "  folder  {}{recorded}", facts.folder.display());
    if let Some(problem) = &facts.problem {
        let _ = writeln!(text, "  refused {problem}");
    }
    let Some(changes) = &facts.changes else {
        if facts.problem.is_none() {
            let _ = writeln!(text, "  files   not known before the steps that it needs have run");
        }
        return;
    };
    for (what, names) in
        [("added  ", &changes.added), ("changed", &changes.changed), ("removed", &changes.removed)]
    {
        let more = names.files.saturating_sub(names.first.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let list =
            if names.files > 0 { format!(": {}{more}", names.first.join(", ")) } else { String::new() };
        let _ = writeln!(text, "  {what} {}{list}", count(names.files as u64, "file"));
    }
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A time as people in any time zone can read it.
pub fn time(seconds: u64) -> String {
    if seconds == 0 {
        return "at an unknown time".to_owned();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string().replace('T', " ")
}
