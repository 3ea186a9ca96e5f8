//! A progress bar for work on many files, with a line of text. Shows nothing without a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

const PARTS: u64 = 1000;

pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Bar {
        Bar(spinner(std::io::stderr().is_terminal()))
    }

    /// `part` is how much of all is done, from 0 to 1, where that is known.
    pub fn show(&self, part: Option<f64>, message: &str) {
        if let Some(part) = part {
            if self.0.length().is_none() {
                measure(&self.0, PARTS);
            }
            self.0.set_position((part * PARTS as f64) as u64);
        }
        self.0.set_message(message.to_owned());
        self.0.tick();
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A text and the elapsed time, for work of unknown length; on standard error, if it is shown.
pub(super) fn spinner(shown: bool) -> ProgressBar {
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(style("{spinner} {elapsed}  {msg}"));
    bar
}

/// Turns it into a bar of `length`.
pub(super) fn measure(bar: &ProgressBar, length: u64) {
    bar.set_style(style("{spinner} {elapsed} [{bar:24}] {msg}"));
    bar.set_length(length);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
