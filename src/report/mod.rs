//! What a person sees: progress while a build runs, its summary at the end, and reports of plans, steps and
//! earlier builds. It only turns the library's data into text.

mod bar;
pub mod drawing;
mod explanation;
mod history;
mod progress;
mod remote;
mod tally;
mod text;
mod trace;
mod tracer;

pub use bar::Bar;
pub use explanation::explanation;
pub use history::{build, history};
pub use progress::Progress;
pub use remote::{rejected, remote, unknown_key};
pub use text::{bytes, check, count, plan, summary};
pub use tracer::Tracer;
