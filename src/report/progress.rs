//! Progress on standard error: a bar on a terminal, now and then a line otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rivet::{Event, Kind};

use super::bar;
use super::remote::entries;
use super::tally::Tally;
use super::text::{count, duration};

/// Without a terminal, how often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    quiet: bool,
    interrupted: Arc<AtomicBool>,
    start: Instant,
    last_line: Instant,
    tally: Tally,
    /// What was printed of each title's length, so that it is printed again only where it was wrong.
    lengths: BTreeMap<String, String>,
    first_encode: Option<Instant>,
    /// Steps, by title and name, that another process runs.
    elsewhere: BTreeSet<(String, String)>,
    /// Whether a line has said that there are such.
    shares: bool,
}

impl Progress {
    pub fn new(quiet: bool, interrupted: Arc<AtomicBool>) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = bar::spinner(terminal && !quiet);
        bar.enable_steady_tick(Duration::from_millis(200));
        let now = Instant::now();
        Progress {
            bar,
            terminal,
            quiet,
            interrupted,
            start: now,
            last_line: now,
            tally: Tally::default(),
            lengths: BTreeMap::new(),
            first_encode: None,
            elsewhere: BTreeSet::new(),
            shares: false,
        }
    }

    pub fn observe(&mut self, event: &Event) {
        if let Event::Started { title, node, .. } | Event::Finished { title, node, .. } = event
            && !self.elsewhere.is_empty()
        {
            self.elsewhere.remove(&(title.clone(), node.clone()));
        }
        self.tally.observe(event);
        match event {
            Event::Started { kind: Kind::Encode, .. } => {
                self.first_encode.get_or_insert_with(Instant::now);
            }
            Event::Started { title, kind, .. } if !self.has_begun() => self.bar.set_message(match kind {
                Kind::Decode => format!("decoding {title} to find what changed"),
                kind => format!("{} {title}", doing(*kind)),
            }),
            Event::Totals { title, rungs, seconds, .. } => {
                let length = format!("{title}: {} on {}", duration(*seconds), count(*rungs, "rung"));
                if self.lengths.insert(title.clone(), length.clone()).as_ref() != Some(&length) {
                    self.note(length);
                }
                self.show();
            }
            Event::Chunked { .. }
            | Event::Finished { encode: Some(_), .. }
            | Event::Finished { stands_for: Some(_), .. } => {
                self.show();
            }
            Event::Waiting { title, kind, node } => {
                self.elsewhere.insert((title.clone(), node.clone()));
                let waiting = format!("waiting: another rivet process is {} {node} of {title}", doing(*kind));
                if !std::mem::replace(&mut self.shares, true) && !self.terminal {
                    self.note(waiting.clone());
                }
                if self.has_begun() {
                    self.show();
                } else {
                    self.bar.set_message(waiting);
                }
            }
            Event::Storing { left } => {
                self.bar.set_message(format!("uploading {} to the remote cache", entries(*left as u64)));
            }
            Event::Warning { title, message } if title.is_empty() => self.note(format!("warning: {message}")),
            Event::Warning { title, message } => self.note(format!("warning: {title}: {message}")),
            _ => {}
        }
        if self.interrupted.load(Ordering::Relaxed) {
            self.bar.set_message("stopping; press Ctrl-C again to leave at once");
        }
    }

    /// Whether there is progress to show, rather than what the first step does.
    fn has_begun(&self) -> bool {
        self.tally.samples().0 > 0 || self.first_encode.is_some()
    }

    /// Prints lines above the bar, from any thread.
    pub fn teller(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let (bar, quiet) = (self.bar.clone(), self.quiet);
        move |line| {
            if !quiet {
                bar.suspend(|| {
                    let _ = writeln!(std::io::stderr().lock(), "{line}");
                });
            }
        }
    }

    /// Prints a line above the bar.
    fn note(&self, line: String) {
        if !self.quiet {
            self.suspend(|| {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            });
        }
    }

    fn show(&mut self) {
        let (done, all) = self.tally.samples();
        if all > 0 {
            bar::measure(&self.bar, all);
            self.bar.set_position(done);
        }
        if !self.has_begun() {
            return;
        }
        let state = self.state();
        self.bar.set_message(state.clone());
        if !self.terminal && self.tally.encoded.samples > 0 && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.note(format!("{}: {state}", duration(self.start.elapsed().as_secs_f64())));
        }
    }

    fn state(&self) -> String {
        let mut segments = match self.tally.encodes() {
            (done, None) => count(done, "segment"),
            (done, Some(all)) => format!("{done} of {}", count(all, "segment")),
        };
        if !self.elsewhere.is_empty() {
            segments += &format!(", {} in another rivet process", count(self.elsewhere.len() as u64, "step"));
        }
        let (encoded, spent) =
            (self.tally.encoded, self.first_encode.map(|start| start.elapsed().as_secs_f64()));
        let Some(spent) = spent.filter(|spent| encoded.samples > 0 && *spent >= 1.0) else { return segments };
        let (done, all) = self.tally.samples();
        let left = all.saturating_sub(done) as f64 * spent / encoded.samples as f64;
        format!("{segments}, {:.2}x, {} left", encoded.seconds / spent, duration(left))
    }

    /// Gets the bar out of the way of what `print` prints.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What running a step of a kind is, with the title or step after it.
fn doing(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "reading",
        Kind::Index => "indexing",
        Kind::Decode => "decoding",
        Kind::Encode | Kind::Audio => "encoding",
        Kind::Mux => "muxing",
        Kind::Chunk | Kind::Pack | Kind::Contract | Kind::Playlist => "building",
        Kind::Publish => "publishing",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use rivet::testing::build::{self, Options};
    use rivet::testing::cache::{LocalCache, Tiers};

    use super::*;

    const BUNNY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/bbb_854x480_24_30s.mp4");
    const FLOWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");
    const FRIDAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/friday_640x480_30_aac.mp4");

    /// Builds a spec in a folder with its cache there, one step at a time. Returns all events, and the bar as
    /// it is then.
    fn build(folder: &Path, spec: &str) -> (Vec<Event>, Progress) {
        let ladder = rivet::spec::parse(spec, &folder.join("ladder.toml")).unwrap();
        let cache = Arc::new(Tiers::offline(Arc::new(LocalCache::open(&folder.join("cache")).unwrap())));
        let events: RefCell<Vec<Event>> = RefCell::default();
        let progress = RefCell::new(Progress::new(true, Arc::default()));
        let observe = |event: &Event| {
            progress.borrow_mut().observe(event);
            events.borrow_mut().push(event.clone());
        };
        let options = Options { jobs: 1, ..Options::default() };
        let summary = build::build(&ladder, cache, &options, Arc::default(), &observe).unwrap();
        assert!(summary.succeeded(), "{:?}", summary.failures);
        (events.into_inner(), progress.into_inner())
    }

    fn rungs(heights: &[u32]) -> String {
        let rung = |height: &u32| format!("[[rung]]\nname = \"{height}\"\nheight = {height}\n");
        heights.iter().map(rung).collect()
    }

    /// A rung is added to a title of 150 segments: its encodes run, and those of the other rung are found as
    /// two packs, of 128 and of 22.
    #[test]
    fn packs_count_as_the_segments_that_they_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        let title = format!("[title]\nsource = \"{BUNNY}\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = 10\n");
        let title = title + "[segments]\nmode = \"fixed\"\ntarget = \"200ms\"\n";
        for (heights, found) in [(&[36][..], vec![]), (&[36, 40][..], vec![22, 128])] {
            let (events, progress) = build(folder.path(), &(title.clone() + &rungs(heights)));
            let packs = events.iter().filter_map(|event| match event {
                Event::Finished { stands_for: Some(pack), .. } => pack.steps.get(&Kind::Encode).copied(),
                _ => None,
            });
            let mut packs: Vec<u64> = packs.collect();
            packs.sort_unstable();
            assert_eq!(packs, found);
            let all = 150 * heights.len() as u64;
            assert_eq!(progress.tally.encodes(), (all, Some(all)));
            assert_eq!(progress.state().split(',').next().unwrap(), format!("{all} of {all} segments"));
            assert!(progress.bar.position() > 0);
            assert_eq!(Some(progress.bar.position()), progress.bar.length());
        }
    }

    #[test]
    fn all_titles_are_counted_before_the_first_frame_is_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let title = |name: &str, source: &str| {
            format!("[[title]]\nname = \"{name}\"\nsource = \"{source}\"\noutput = \"{name}\"\n")
        };
        let spec = title("flower", FLOWER)
            + &title("friday", FRIDAY)
            + "[encoder.rav1e]\nspeed = 10\n"
            + &rungs(&[36]);
        let (events, progress) = build(folder.path(), &spec);
        let is_decode = |event: &Event| matches!(event, Event::Started { kind: Kind::Decode, .. });
        let first = events.iter().position(is_decode).unwrap();
        let mut before = Tally::default();
        events[..first].iter().for_each(|event| before.observe(event));
        // 150 frames of 64x36 and 185 of 48x36, as both containers say and decoding confirms.
        assert_eq!(before.samples(), (0, 150 * 64 * 36 + 185 * 48 * 36));
        assert_eq!(before.samples().1, progress.tally.samples().1);
        assert_eq!(progress.lengths.len(), 2);
        assert_eq!(Some(progress.bar.position()), progress.bar.length());
    }
}
