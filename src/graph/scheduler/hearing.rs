//! A sound whose windows in the cache are of other samples than its decoder makes here, though its file is
//! the same: FFmpeg was built otherwise where they were found.

use petgraph::graph::NodeIndex;

use super::Scheduler;
use super::repair::MOST_REPAIRS;
use crate::graph::event::Origin;
use crate::graph::step::{Node, State, Step};

impl Scheduler<'_> {
    /// Has the windows of a sound found again, and takes back all that rests on those that were in the cache.
    /// False where they were not, or too often: then the sound never decodes to the same samples.
    pub(super) fn hear_again(&mut self, window: NodeIndex) -> bool {
        let Node { title: number, step: Step::Audio { track, .. }, .. } = self.graph[window] else {
            return false;
        };
        let title = &mut self.titles[number];
        let Ok((rendition, sound)) = title.rendition(track) else { return false };
        let (sound, node) = (rendition.sound, sound.node);
        let was_cached = matches!(self.graph[node].state, State::Done { origin: Origin::Cached, .. });
        if !was_cached || self.graph[node].repairs >= MOST_REPAIRS {
            return false;
        }
        let old = title.ungrow_sound(&self.graph, sound);
        let told = format!("{}: {}", title.name, title.label(self.graph[node].step));
        tracing::warn!(
            "{told}: the sound decodes to other samples than the cache tells of, and is heard again"
        );
        for node in old {
            if !matches!(self.graph[node].state, State::Done { .. } | State::Failed) {
                self.drop_node(node);
            }
        }
        let graph = &self.graph;
        self.fresh.retain(|&node| graph[node].is_fresh());
        self.graph[node].disbelieved = true;
        self.make_again(window, node);
        true
    }
}
