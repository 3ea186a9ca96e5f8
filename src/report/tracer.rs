//! A build's events as a trace.

use std::fs::File;
use std::io;
use std::time::Duration;

use rivet::{Event, Origin};
use serde_json::json;

use super::trace::Trace;

/// Writes a trace of a build's events.
pub struct Tracer {
    trace: Trace<File>,
    /// The counters as they were written last.
    gauges: Option<[u64; 5]>,
}

impl Tracer {
    pub fn new(file: File) -> io::Result<Tracer> {
        Ok(Tracer { trace: Trace::new(file)?, gauges: None })
    }

    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::Finished { title, kind, node, origin: Origin::Ran, run, encode, .. } => {
                self.trace.slot(run.slot);
                let args = json!({ "title": title, "seconds of source": encode.map(|work| work.seconds) });
                self.trace.step(run.slot, node, kind.name(), micros(run.start), micros(run.wall), args);
            }
            Event::Gauges { at, queued, running, memory, looked_up, found } => {
                let now = [*queued, *running, *memory, *looked_up, *found];
                if self.gauges != Some(now) {
                    self.gauges = Some(now);
                    let at = micros(*at);
                    self.trace.counter(
                        "steps",
                        at,
                        &[("queued", *queued as f64), ("running", *running as f64)],
                    );
                    self.trace.counter("memory", at, &[("frames and encoders (MB)", *memory as f64 / 1e6)]);
                    let missed = looked_up.saturating_sub(*found);
                    self.trace.counter(
                        "cache look-ups",
                        at,
                        &[("found", *found as f64), ("missed", missed as f64)],
                    );
                }
            }
            Event::Failed { title, node, message, .. } => {
                let args = json!({ "title": title, "node": node, "message": message });
                self.trace.mark("failed", 0, args);
            }
            _ => {}
        }
    }

    pub fn finish(self) -> io::Result<()> {
        self.trace.finish()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
