//! What ran when, on which slot, as Chrome's Trace Event JSON: a file that Perfetto
//! (ui.perfetto.dev) and `chrome://tracing` open. It measures nothing itself.
//!
//! The file is the format's plain array, an event a line, not the object with `traceEvents`:
//! readers take an array whose end is missing, so that the trace of a build that was killed can be
//! opened too. For the same reason each event reaches the writer whole, in one call, with the
//! comma of its predecessor in front: hand over a [`File`](std::fs::File) itself rather than
//! something that buffers.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

/// Rows belong to a process in this format. Its number means nothing, so it is always the same,
/// and not that of a row, which Perfetto would then call the main thread.
const PROCESS: u64 = 1000;

pub struct Trace<W: Write> {
    writer: W,
    /// The first failure to write; nothing is written after it.
    failed: Option<io::Error>,
    /// Whether no event has been written yet.
    empty: bool,
    /// The slots that have a row, with the time at which their latest step ended.
    rows: BTreeMap<usize, u64>,
}

/// An event, with the fields' names in the format.
#[derive(Default, Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    /// The phase, which says what the event is.
    ph: &'a str,
    pid: u64,
    tid: u64,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    /// How far an instant reaches: `p`, over all rows of the process.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

impl<W: Write> Trace<W> {
    pub fn new(writer: W) -> io::Result<Trace<W>> {
        let mut trace = Trace { writer, failed: None, empty: true, rows: BTreeMap::new() };
        trace.about("process_name", 0, json!({ "name": "rivet" }));
        match trace.failed.take() {
            None => Ok(trace),
            Some(error) => Err(error),
        }
    }

    /// Gives a slot its row, once. Slots are numbered from 0, and named from 1.
    pub fn slot(&mut self, slot: usize) {
        if self.rows.contains_key(&slot) {
            return;
        }
        self.rows.insert(slot, 0);
        self.about("thread_name", row(slot), json!({ "name": format!("slot {}", slot + 1) }));
        self.about("thread_sort_index", row(slot), json!({ "sort_index": slot }));
    }

    /// A step that ran on a slot, written when it has ended. Readers drop slices that overlap in a
    /// row; times that were rounded may do so by a little, so a step that seems to begin before
    /// its predecessor on that slot ended is shown from there on.
    pub fn step(
        &mut self,
        slot: usize,
        name: &str,
        category: &str,
        start_us: u64,
        duration_us: u64,
        args: Value,
    ) {
        self.slot(slot);
        let free = self.rows.get(&slot).copied().unwrap_or(0);
        let start = start_us.max(free);
        let end = start_us.saturating_add(duration_us).max(start);
        self.rows.insert(slot, end);
        self.write(Event {
            name,
            cat: category,
            ph: "X",
            tid: row(slot),
            ts: Some(start),
            dur: Some(end - start),
            args: object(args),
            ..Event::default()
        });
    }

    /// Something that happened at one time and belongs to no slot.
    pub fn mark(&mut self, name: &str, at_us: u64, args: Value) {
        self.write(Event {
            name,
            ph: "i",
            ts: Some(at_us),
            scope: Some("p"),
            args: object(args),
            ..Event::default()
        });
    }

    /// From this time on the series of a counter have these values. JSON has no NaN and no
    /// infinity: a series that is either keeps the value that it had.
    pub fn counter(&mut self, name: &str, at_us: u64, series: &[(&str, f64)]) {
        let finite = series.iter().filter(|(_, value)| value.is_finite());
        let args: serde_json::Map<_, _> =
            finite.map(|&(series, value)| (series.to_owned(), json!(value))).collect();
        if !args.is_empty() {
            self.write(Event {
                name,
                ph: "C",
                ts: Some(at_us),
                args: Value::Object(args),
                ..Event::default()
            });
        }
    }

    /// Closes the array. Returns the first failure to write since [`Trace::new`].
    pub fn finish(mut self) -> io::Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => {
                self.writer.write_all(b"\n]\n")?;
                self.writer.flush()
            }
        }
    }

    /// Metadata: what to call a process or a row, and where to put it.
    fn about(&mut self, name: &str, tid: u64, args: Value) {
        self.write(Event { name, ph: "M", tid, args, ..Event::default() });
    }

    fn write(&mut self, event: Event) {
        if self.failed.is_some() {
            return;
        }
        let mut line = if self.empty { b"[\n".to_vec() } else { b",\n".to_vec() };
        let event = Event { pid: PROCESS, ..event };
        let written = serde_json::to_writer(&mut line, &event).map_err(io::Error::from);
        self.failed = written.and_then(|()| self.writer.write_all(&line)).err();
        self.empty = false;
    }
}

/// Row 0 is the process's own, and some readers take thread 0 for the idle one.
fn row(slot: usize) -> u64 {
    slot as u64 + 1
}

/// The format wants an object, or nothing.
fn object(args: Value) -> Value {
    match args {
        Value::Null | Value::Object(_) => args,
        other => json!({ "value": other }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `write` wrote, finished.
    fn events(write: impl FnOnce(&mut Trace<&mut Vec<u8>>)) -> Vec<Value> {
        let mut bytes = Vec::new();
        let mut trace = Trace::new(&mut bytes).unwrap();
        write(&mut trace);
        trace.finish().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn rows_are_named_once_and_in_order() {
        let events = events(|trace| {
            trace.slot(1);
            trace.slot(0);
            trace.slot(1);
            trace.step(0, "720p/1", "encode", 5, 10, json!({ "rung": "720p" }));
        });
        let metadata = |name: &str| {
            let some = events.iter().filter(|event| event["ph"] == "M" && event["name"] == name);
            some.map(|event| (event["tid"].clone(), event["args"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(metadata("process_name"), [(json!(0), json!({ "name": "rivet" }))]);
        assert_eq!(
            metadata("thread_name"),
            [(json!(2), json!({ "name": "slot 2" })), (json!(1), json!({ "name": "slot 1" }))]
        );
        assert_eq!(
            metadata("thread_sort_index"),
            [(json!(2), json!({ "sort_index": 1 })), (json!(1), json!({ "sort_index": 0 }))]
        );
        assert_eq!(
            events.last(),
            Some(&json!({
                "name": "720p/1", "cat": "encode", "ph": "X", "pid": 1000, "tid": 1, "ts": 5, "dur": 10,
                "args": { "rung": "720p" },
            }))
        );
    }

    #[test]
    fn slices_of_a_row_do_not_overlap() {
        let events = events(|trace| {
            trace.step(0, "a", "decode", 0, 100, Value::Null);
            trace.step(0, "b", "encode", 99, 51, Value::Null);
            trace.step(1, "c", "encode", 20, 500, Value::Null);
            trace.step(0, "d", "mux", 140, 5, Value::Null);
            trace.step(0, "e", "mux", u64::MAX - 1, 5, Value::Null);
        });
        let mut ends = BTreeMap::new();
        let mut slices = 0;
        for event in events.iter().filter(|event| event["ph"] == "X") {
            let (start, length) = (event["ts"].as_u64().unwrap(), event["dur"].as_u64().unwrap());
            let end = ends.entry(event["tid"].as_u64().unwrap()).or_insert(0);
            assert!(start >= *end, "{event} begins before {end}");
            *end = start + length;
            slices += 1;
        }
        assert_eq!((slices, ends[&2]), (5, 520));
    }

    #[test]
    fn counters_and_marks() {
        let events = events(|trace| {
            trace.counter("memory", 7, &[("frames", 1.5e9), ("encoders", f64::NAN)]);
            trace.counter("memory", 8, &[("frames", f64::INFINITY)]);
            trace.mark("title \"x\" is cut\n", 9, json!(12));
        });
        assert_eq!(
            events[1..],
            [
                json!({
                    "name": "memory", "ph": "C", "pid": 1000, "tid": 0, "ts": 7,
                    "args": { "frames": 1.5e9 },
                }),
                json!({
                    "name": "title \"x\" is cut\n", "ph": "i", "pid": 1000, "tid": 0, "ts": 9, "s": "p",
                    "args": { "value": 12 },
                }),
            ]
        );
    }

    /// Takes so many bytes, and refuses what goes beyond.
    struct Full<'a>(&'a mut Vec<u8>, usize);

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_there_at_any_time_only_lacks_the_end() {
        let mut bytes = Vec::new();
        let mut trace = Trace::new(Full(&mut bytes, 400)).unwrap();
        for n in 0..20 {
            trace.step(0, "720p/1", "encode", n * 10, 10, Value::Null);
        }
        assert_eq!(trace.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        bytes.push(b']');
        let events: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
        assert!(events.len() > 3);
        assert!(Trace::new(Full(&mut Vec::new(), 10)).is_err());
    }
}
