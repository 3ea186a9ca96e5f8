//! What a person sees: progress while a build runs, and its summary at the end. It only turns
//! what the library tells into text.

mod progress;
mod text;

pub use progress::Progress;
pub use text::{bytes, plan, summary};
