//! The build log as text.

use std::fmt::Write;

use rivet::{BuildRecord, Ending, Kind, StepsRecord, TitleRecord};

use super::explanation::time;
use super::text::{count, duration};

/// A line for each build.
pub fn history(records: &[BuildRecord]) -> String {
    let mut text = String::new();
    for record in records {
        let counts = |kind: Kind| record.nodes.get(&kind).copied().unwrap_or_default();
        let ran: u64 = record.nodes.values().map(|counts| counts.ran).sum();
        let encodes = counts(Kind::Encode);
        let what = match ran {
            0 if record.ending == Ending::Done => "up to date".to_owned(),
            0 => "nothing ran".to_owned(),
            _ => format!(
                "{} ran, {} of {}",
                count(ran, "step"),
                encodes.ran,
                count(encodes.ran + encodes.cached + encodes_left(record), "encode")
            ),
        };
        let _ = writeln!(
            text,
            "{}  {}  {:<11}  {:>9}  {what}  {}",
            record.name,
            time(record.started),
            record.ending.name(),
            duration(record.wall_seconds),
            record.ladder.display(),
        );
    }
    text
}

/// Encodes that were known and not done when the build ended.
fn encodes_left(record: &BuildRecord) -> u64 {
    let steps = record.titles.iter().filter_map(|title| title.steps.get(&Kind::Encode));
    steps.map(|steps| steps.left).sum()
}

/// What a build that did not get to its end was to do: each title, and how far its steps were.
fn wanted(text: &mut String, titles: &[TitleRecord]) {
    let _ = writeln!(text, "wanted:");
    for title in titles {
        let what = match (title.published, title.exact) {
            (true, _) => "published",
            (false, true) => "not published",
            (false, false) => "not published; not all of its chunks were known yet",
        };
        let _ = writeln!(text, "  {}: {what}", title.name);
        if title.published {
            continue;
        }
        let width = |number: fn(&StepsRecord) -> u64| {
            title.steps.values().map(|steps| number(steps).to_string().len()).max().unwrap_or(0)
        };
        let (done, left) = (width(|steps| steps.done), width(|steps| steps.left));
        let kinds = title.steps.keys().map(|kind| kind.name().len()).max().unwrap_or(0);
        for (kind, steps) in &title.steps {
            let failed = if steps.failed > 0 { format!(", {} failed", steps.failed) } else { String::new() };
            let kind = kind.name();
            let _ = writeln!(
                text,
                "    {kind:<kinds$}  {:>done$} done, {:>left$} left{failed}",
                steps.done, steps.left
            );
        }
    }
}

/// One build: what was wanted if it did not get to its end, what ran, what failed, and the critical path.
pub fn build(record: &BuildRecord) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  {}  {}", record.name, time(record.started), record.ending.name());
    let _ = writeln!(text, "  spec    {}", record.ladder.display());
    let _ = writeln!(text, "  on      {}, rivet {}", record.host, record.rivet);
    let _ = writeln!(
        text,
        "  took    {}, {} of CPU",
        duration(record.wall_seconds),
        duration(record.cpu_seconds)
    );
    for title in &record.titles {
        let digest = title.digest.as_deref().map_or("not read", |digest| &digest[..12.min(digest.len())]);
        let _ = writeln!(text, "  source  {}: {} ({digest})", title.name, title.source.display());
    }
    let several = record.titles.len() > 1;
    let name = |title: &str, node: &str| if several { format!("{title}:{node}") } else { node.to_owned() };
    for failure in &record.failures {
        let _ = writeln!(text, "failed  {}: {}", name(&failure.title, &failure.node), failure.message);
    }
    // Records of rivet 0.1.0 do not have it.
    if record.ending != Ending::Done && record.titles.iter().any(|title| !title.steps.is_empty()) {
        wanted(&mut text, &record.titles);
    }
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for ran in &record.ran {
        let time = duration(ran.wall_ms as f64 / 1000.0);
        rows.push((name(&ran.title, &ran.nodes), ran.kind.name().to_owned(), time));
    }
    if rows.is_empty() {
        let _ = writeln!(text, "nothing ran");
    } else {
        let _ = writeln!(text, "ran:");
        table(&mut text, &rows);
    }
    if !record.critical_path.is_empty() {
        let total: u64 = record.critical_path.iter().map(|step| step.wall_ms).sum();
        let _ = writeln!(text, "critical path, {}:", duration(total as f64 / 1000.0));
        let rows: Vec<(String, String, String)> = record
            .critical_path
            .iter()
            .map(|step| {
                let time = duration(step.wall_ms as f64 / 1000.0);
                (name(&step.title, &step.node), step.kind.name().to_owned(), time)
            })
            .collect();
        table(&mut text, &rows);
    }
    text
}

fn table(text: &mut String, rows: &[(String, String, String)]) {
    let width = |cell: &dyn Fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0)
    };
    let (names, kinds, times) = (width(&|row| &row.0), width(&|row| &row.1), width(&|row| &row.2));
    for (name, kind, time) in rows {
        let _ = writeln!(text, "  {name:<names$}  {kind:<kinds$}  {time:>times$}");
    }
}
