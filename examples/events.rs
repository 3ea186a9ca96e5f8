//! Sums up what `rivet build --events build.jsonl` wrote: where the time went, by kind of step:
//!
//!     cargo run --example events -- build.jsonl

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use rivet::{Event, Kind, Origin};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a file that `rivet build --events FILE` wrote")?;
    let mut spent: BTreeMap<Kind, (u32, Duration)> = BTreeMap::new();
    let mut summary = None;
    for line in BufReader::new(File::open(path)?).lines() {
        match serde_json::from_str(&line?)? {
            Event::Finished { kind, origin: Origin::Ran, run, .. } => {
                let (steps, time) = spent.entry(kind).or_default();
                *steps += 1;
                *time += run.wall;
            }
            Event::Summary(last) => summary = Some(last),
            _ => {}
        }
    }
    for (kind, (steps, time)) in &spent {
        println!("{:>9}  {steps:>6} ran  {:>9.2} s", kind.name(), time.as_secs_f64());
    }
    match summary {
        Some(summary) => println!("{:.2} s in all", summary.wall_seconds),
        None => println!("the build did not end: there is no summary"),
    }
    Ok(())
}
