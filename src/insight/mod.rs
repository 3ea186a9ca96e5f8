//! What a build will do and has done, for people: plans, explanations, drawings of the graph, the
//! build log, and the check that the same steps produce the same bytes. Nothing here runs a step of a build.

mod check;
mod explain;
mod outside;
mod plan;
mod title_key;
mod view;

pub use check::{Check, Difference, check};
pub use explain::{Explanation, Field, LastBuild, ResultFacts, Verdict, explain};
pub use outside::{FileNames, PublishChanges, PublishFacts, SourceFacts};
pub use plan::{ComparedBuild, KindPlan, Plan, plan};
pub use title_key::{TitleKey, title_keys};
pub use view::{GraphView, NodeState, NodeView, view};
