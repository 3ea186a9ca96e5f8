//! Summaries in words and columns, readable without colour.

use std::fmt::Write;

use rivet::{Check, Kind, KindPlan, Plan, Summary, TitlePlan, TrackPlan, TrackSummary};

use super::explanation::time;

/// A number of bytes with three digits or so, in decimal units as disks are sold.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB", "TB"])
}

fn bit_rate(bits: u64) -> String {
    scaled(bits, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
}

fn scaled(value: u64, units: &[&str]) -> String {
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || scaled >= 99.95 {
        0
    } else if scaled >= 9.995 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {}", units[unit])
}

/// Seconds as people read them: `12 ms`, `5.3 s`, `4 min 10 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 if seconds > 0.0 && seconds < 0.1 => format!("{:.0} ms", seconds * 1000.0),
        0..60 if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The closing summary of a build.
pub fn summary(summary: &Summary) -> String {
    let mut text = String::new();
    for title in &summary.titles {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {}  {}", title.name, duration(title.seconds), title.entry);
        let tracks: Vec<&TrackSummary> = title.rungs.iter().chain(&title.audio).collect();
        let width = |cell: &dyn Fn(&TrackSummary) -> String| {
            tracks.iter().map(|t| cell(t).chars().count()).max().unwrap_or(0)
        };
        let size =
            |t: &TrackSummary| t.size.map_or(String::new(), |(width, height)| format!("{width}x{height}"));
        let (names, sizes, codecs) = (width(&|t| t.name.clone()), width(&size), width(&|t| t.codecs.clone()));
        for track in &tracks {
            let encoded = match track.encoded {
                0 => "all cached".to_owned(),
                n if n == track.segments => "all encoded".to_owned(),
                n => format!("{n} encoded"),
            };
            let _ = writeln!(
                text,
                "  {:<names$}  {:<sizes$}  {:<codecs$}  {:>9}  {:>12}, peak {:>12}  {}, {encoded}",
                track.name,
                size(track),
                track.codecs,
                bytes(track.bytes),
                bit_rate(track.average),
                bit_rate(track.peak),
                count(track.segments, "segment"),
            );
        }
    }
    let ran: u64 = summary.nodes.values().map(|counts| counts.ran).sum();
    let cached: u64 = summary.nodes.values().map(|counts| counts.cached).sum();
    let encodes = summary.nodes.get(&Kind::Encode).copied().unwrap_or_default();
    let _ = match (ran, summary.succeeded()) {
        (0, true) => write!(text, "up to date ({} checked)", count(cached, "step")),
        _ => write!(text, "{} ran ({}), {cached} cached", count(ran, "step"), count(encodes.ran, "encode"),),
    };
    if summary.spans_on_gpus > 0 {
        let _ = write!(text, ", {} decoded on GPUs", count(summary.spans_on_gpus, "span"));
    }
    let _ = writeln!(
        text,
        "; {:.2} s, {:.2} s of CPU{}",
        summary.wall_seconds,
        summary.cpu_seconds,
        match (summary.interrupted, summary.failures.len() as u64) {
            (true, _) => "; interrupted: run it again to continue".to_owned(),
            (false, 0) => String::new(),
            (false, n) => format!("; {} failed", count(n, "step")),
        }
    );
    if let Some(report) = &summary.remote {
        text += &super::remote::remote(report);
    }
    text
}

/// What a build will run, and what is cached.
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for title in &plan.titles {
        let _ = match title {
            TitlePlan { up_to_date: true, .. } => {
                writeln!(text, "{}  {}: up to date", title.name, duration(title.seconds))
            }
            TitlePlan { exact: true, .. } => writeln!(text, "{}  {}", title.name, duration(title.seconds)),
            _ => {
                writeln!(text, "{}  not analyzed yet: `rivet build` decodes it first", title.name)
            }
        };
        if title.up_to_date || !title.exact {
            continue;
        }
        let sizes = |track: &TrackPlan| track.size.map_or(String::new(), |(w, h)| format!("{w}x{h}"));
        let names = title.tracks.iter().map(|track| track.name.chars().count()).max().unwrap_or(0);
        let size = title.tracks.iter().map(|track| sizes(track).len()).max().unwrap_or(0);
        for track in &title.tracks {
            let _ = write!(text, "  {:<names$}  {:<size$}  ", track.name, sizes(track));
            let _ = match track.to_encode {
                0 => writeln!(text, "{}, all cached", count(track.segments, "segment")),
                n => writeln!(
                    text,
                    "encode {n} of {} ({}): {}",
                    count(track.segments, "segment"),
                    duration(track.seconds_to_encode),
                    ranges(&track.which),
                ),
            };
            for reason in &track.why {
                let _ = writeln!(text, "  {:names$}  {:size$}    {reason}", "", "");
            }
        }
    }
    if let Some(last) = &plan.last {
        let (build, time, ladder) = (&last.build, time(last.started), last.ladder.display());
        let _ = writeln!(text, "compared with the build {build} ({time}) of {ladder}");
    }
    if !plan.several_encoders.is_empty() {
        let rungs = plan.several_encoders.join(", ");
        let _ = writeln!(text, "with several encoders, bytes may differ from build to build: {rungs}");
    }
    let list = |pick: &dyn Fn(&KindPlan) -> u64| {
        let some = plan.nodes.iter().map(|node| (node.kind, pick(node))).filter(|&(_, n)| n > 0);
        let some: Vec<String> = some.map(|(kind, n)| format!("{n} {}", kind.name())).collect();
        if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
    };
    let _ = writeln!(text, "run: {}", list(&|node| node.run));
    if plan.nodes.iter().any(|node| node.may_run > 0) {
        let _ = writeln!(text, "may run: {}", list(&|node| node.may_run));
    }
    let _ = writeln!(text, "cached: {}", list(&|node| node.cached));
    text
}

/// Numbers of segments, e.g. `3, 7-9`; a long list is cut short.
fn ranges(ranges: &[(u64, u64)]) -> String {
    const MAX_RANGES: usize = 10;
    let one = |&(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut text = ranges.iter().take(MAX_RANGES).map(one).collect::<Vec<_>>().join(", ");
    if ranges.len() > MAX_RANGES {
        text += ", …";
    }
    text
}

/// What building everything a second time has found.
pub fn check(check: &Check) -> String {
    let mut text = String::new();
    for difference in &check.differences {
        let _ = writeln!(
            text,
            "{}: {} ({}) produced other bytes\n  key {}\n  cached {}, rebuilt {}",
            difference.title,
            difference.node,
            difference.kind.name(),
            difference.key,
            difference.cached,
            difference.again,
        );
    }
    let _ = match (check.differences.len(), check.compared) {
        (0, compared) => writeln!(text, "checked: {} produced the same bytes again", count(compared, "step")),
        (different, compared) => {
            writeln!(text, "{different} of {} produced other bytes", count(compared, "step"))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(
            [0, 999, 1000, 1_234_567, 99_960_000].map(bytes),
            ["0 B", "999 B", "1.00 kB", "1.23 MB", "100 MB"]
        );
        assert_eq!(
            [0.0123, 5.28, 59.0, 250.0, 7500.0].map(duration),
            ["12 ms", "5.3 s", "59 s", "4 min 10 s", "2 h 05 min"]
        );
        assert_eq!((count(1, "step"), count(0, "step")), ("1 step".to_owned(), "0 steps".to_owned()));
    }

    fn track(name: &str, encoded: u64) -> TrackSummary {
        let mut track = TrackSummary::default();
        (track.name, track.codecs) = (name.to_owned(), "av01.0.05M.08".to_owned());
        (track.size, track.segments, track.encoded) = (Some((1280, 720)), 6, encoded);
        (track.bytes, track.average, track.peak) = (516_000, 782_000, 901_000);
        track
    }

    #[test]
    fn a_summary_says_what_ran_and_what_was_cached() {
        let counts = |ran, cached| rivet::Counts { ran, cached, failed: 0 };
        let nodes = [(Kind::Encode, counts(0, 60)), (Kind::Mux, counts(0, 4))].into();
        let mut none = Summary::default();
        none.nodes = nodes;
        assert_eq!(summary(&none), "up to date (64 steps checked); 0.00 s, 0.00 s of CPU\n");
        let mut title = rivet::TitleSummary::default();
        (title.name, title.entry, title.seconds) = ("bunny".to_owned(), "dist/master.m3u8".to_owned(), 5.28);
        title.rungs = vec![track("720p", 6), track("hd", 0), track("sd", 2)];
        let mut some = Summary::default();
        some.nodes = [(Kind::Encode, counts(8, 10)), (Kind::Mux, counts(3, 15))].into();
        (some.titles, some.spans_on_gpus, some.interrupted) = (vec![title], 1, true);
        (some.wall_seconds, some.cpu_seconds) = (1.5, 2.0);
        let expected = "\
bunny  5.3 s  dist/master.m3u8
  720p  1280x720  av01.0.05M.08     516 kB    782 kbit/s, peak   901 kbit/s  6 segments, all encoded
  hd    1280x720  av01.0.05M.08     516 kB    782 kbit/s, peak   901 kbit/s  6 segments, all cached
  sd    1280x720  av01.0.05M.08     516 kB    782 kbit/s, peak   901 kbit/s  6 segments, 2 encoded
11 steps ran (8 encodes), 25 cached, 1 span decoded on GPUs; 1.50 s, 2.00 s of CPU; interrupted: run it again to continue
";
        assert_eq!(summary(&some), expected);
    }

    #[test]
    fn a_plan_says_what_runs_what_may_run_and_what_is_cached() {
        let track = |name: &str, to_encode, which: &[(u64, u64)], why: &[&str]| TrackPlan {
            name: name.to_owned(),
            size: Some((640, 360)),
            segments: 12,
            to_encode,
            seconds_to_encode: to_encode as f64,
            which: which.to_vec(),
            why: why.iter().map(|why| (*why).to_owned()).collect(),
        };
        let title = |name: &str, exact, up_to_date, tracks| TitlePlan {
            name: name.to_owned(),
            exact,
            up_to_date,
            seconds: 9.5,
            tracks,
        };
        let tracks =
            vec![track("360p", 4, &[(3, 3), (7, 9)], &["crf: 40, was 32"]), track("main", 0, &[], &[])];
        let kind = |kind, run, may_run, cached| KindPlan { kind, run, may_run, cached };
        let some = Plan {
            nodes: vec![kind(Kind::Encode, 4, 0, 8), kind(Kind::Mux, 0, 4, 8), kind(Kind::Index, 0, 0, 2)],
            titles: vec![
                title("a", true, false, tracks),
                title("b", true, true, Vec::new()),
                title("c", false, false, Vec::new()),
            ],
            last: Some(rivet::ComparedBuild {
                build: "20261201T170000.000Z-0123abcd".to_owned(),
                started: 1_796_144_400,
                ladder: "/project/ladder.toml".into(),
            }),
            several_encoders: Vec::new(),
            failures: Vec::new(),
            remote: None,
            interrupted: false,
        };
        let expected = "\
a  9.5 s
  360p  640x360  encode 4 of 12 segments (4.0 s): 3, 7-9
                   crf: 40, was 32
  main  640x360  12 segments, all cached
b  9.5 s: up to date
c  not analyzed yet: `rivet build` decodes it first
compared with the build 20261201T170000.000Z-0123abcd (2026-12-01 17:00:00Z) of /project/ladder.toml
run: 4 encode
may run: 4 mux
cached: 8 encode, 8 mux, 2 index
";
        assert_eq!(plan(&some), expected);
    }
}
