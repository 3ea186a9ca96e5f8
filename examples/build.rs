//! Builds a ladder and prints what happens:
//!
//!     cargo run --example build -- ladder.toml

use std::error::Error;
use std::sync::Arc;

use rivet::{BuildOptions, Event, Origin, Session, SessionOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "ladder.toml".into());
    let ladder = rivet::load(path.as_ref())?;
    let session = Session::open(&ladder, SessionOptions::default())?;
    let summary = session.build(&ladder, &BuildOptions::default(), Arc::default(), &print)?;
    for title in &summary.titles {
        println!("{}: {:.1} s in {}", title.name, title.seconds, title.entry);
    }
    match summary.failures.first() {
        None => Ok(()),
        Some(failure) => Err(failure.to_string().into()),
    }
}

fn print(event: &Event) {
    match event {
        Event::Finished { title, node, origin: Origin::Ran, run, .. } => {
            println!("{title}: {node} took {:.2} s", run.wall.as_secs_f64());
        }
        Event::Warning { message, .. } => eprintln!("warning: {message}"),
        _ => {}
    }
}
