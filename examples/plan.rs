//! Says what a build of a ladder will encode, and why, without running it:
//!
//!     cargo run --example plan -- ladder.toml

use std::error::Error;
use std::sync::Arc;

use rivet::{Access, Session, SessionOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "ladder.toml".into());
    let ladder = rivet::load(path.as_ref())?;
    let mut options = SessionOptions::default();
    options.access = Access::ReadOnly;
    let plan = Session::open(&ladder, options)?.plan(&ladder, Arc::default())?;
    for title in &plan.titles {
        if !title.exact {
            println!("{}: not analyzed yet, a build decodes it first", title.name);
        }
        for track in title.tracks.iter().filter(|track| track.to_encode > 0) {
            let (new, all) = (track.to_encode, track.segments);
            println!("{}: {} encodes {new} of {all} segments", title.name, track.name);
            for reason in &track.why {
                println!("  {reason}");
            }
        }
    }
    if !plan.has_to_run() {
        println!("up to date");
    }
    Ok(())
}
