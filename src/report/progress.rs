//! Progress on standard error: a bar on a terminal, now and then a line otherwise.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rivet::{Event, Kind, Origin};

use super::bar;
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
    rungs: u64,
    /// Encodes in all, once they are known, and done, from the cache or not.
    encodes: u64,
    done: u64,
    /// Luma samples to encode in all, found in the cache, and encoded.
    samples: u64,
    reused: u64,
    encoded: u64,
    /// Seconds of film encoded, over all rungs.
    seconds: f64,
    first_encode: Option<Instant>,
    /// Steps, by title and name, that another process is at.
    elsewhere: BTreeSet<(String, String)>,
    /// Whether it has been told that there are such.
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
            rungs: 0,
            encodes: 0,
            done: 0,
            samples: 0,
            reused: 0,
            encoded: 0,
            seconds: 0.0,
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
        match event {
            Event::Started { kind: Kind::Encode, .. } => {
                self.first_encode.get_or_insert_with(Instant::now);
            }
            Event::Started { title, kind, .. } if self.samples == 0 => self.bar.set_message(match kind {
                Kind::Source => format!("reading {title}"),
                Kind::Index => format!("indexing {title}"),
                Kind::Decode => format!("decoding {title} to find what changed"),
                _ => title.clone(),
            }),
            Event::Film { title, rungs, seconds, samples } => {
                self.samples += samples;
                self.rungs = *rungs;
                bar::measure(&self.bar, self.samples);
                self.note(format!("{title}: {} on {}", duration(*seconds), count(*rungs, "rung")));
                self.show();
            }
            Event::Cut { chunks, .. } => {
                self.encodes += chunks * self.rungs;
                self.show();
            }
            Event::Finished { kind: Kind::Encode, origin, encode: Some(work), .. } => {
                self.done += 1;
                match origin {
                    Origin::Cached => self.reused += work.samples,
                    Origin::Ran => {
                        self.encoded += work.samples;
                        self.seconds += work.seconds;
                    }
                }
                self.show();
            }
            Event::Waiting { title, node, .. } => {
                self.elsewhere.insert((title.clone(), node.clone()));
                if !std::mem::replace(&mut self.shares, true) && !self.terminal {
                    self.note(format!("{title}: {node} waits for another rivet that is at it"));
                }
                if self.samples == 0 {
                    self.bar.set_message(format!("waiting for another rivet that is at {node} of {title}"));
                } else {
                    self.show();
                }
            }
            Event::Storing { left } => {
                self.bar
                    .set_message(format!("{} to store in the remote cache", count(*left as u64, "result")));
            }
            Event::Warning { title, message } if title.is_empty() => self.note(format!("warning: {message}")),
            Event::Warning { title, message } => self.note(format!("warning: {title}: {message}")),
            _ => {}
        }
        if self.interrupted.load(Ordering::Relaxed) {
            self.bar.set_message("stopping; press Ctrl-C again to leave at once");
        }
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
        self.bar.set_position(self.reused + self.encoded);
        let state = self.state();
        self.bar.set_message(state.clone());
        if !self.terminal && self.encoded > 0 && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.note(format!("{}: {state}", duration(self.start.elapsed().as_secs_f64())));
        }
    }

    fn state(&self) -> String {
        let mut segments = match self.encodes {
            0 => count(self.done, "segment"),
            all => format!("{} of {}", self.done, count(all, "segment")),
        };
        if !self.elsewhere.is_empty() {
            segments += &format!(", {} in another rivet", count(self.elsewhere.len() as u64, "step"));
        }
        let spent = self.first_encode.map_or(0.0, |start| start.elapsed().as_secs_f64());
        if self.encoded == 0 || spent < 1.0 {
            return segments;
        }
        let left = self.samples.saturating_sub(self.reused + self.encoded) as f64;
        let left = left * spent / self.encoded as f64;
        format!("{segments}, {:.2}x, {} left", self.seconds / spent, duration(left))
    }

    /// Gets the bar out of the way of what `print` prints.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
