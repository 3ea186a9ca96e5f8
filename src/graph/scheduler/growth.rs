//! Results that tell of more steps, and how the new steps are ranked.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::Scheduler;
use crate::graph::error::StepError;
use crate::graph::event::{EncodeWork, Event};
use crate::graph::film::Film;
use crate::graph::memo;
use crate::graph::step::{Node, Step};
use crate::graph::work::{Payload, SoundFacts, facts};

impl Scheduler<'_> {
    /// Adds the steps that a result tells of.
    pub(super) fn grow(
        &mut self,
        id: NodeIndex,
        title: usize,
        step: Step,
        payload: Payload,
    ) -> Result<(), StepError> {
        let before = self.graph.node_count();
        match payload {
            Payload::None => {}
            Payload::Source(digest) if self.titles[title].digest.is_none() => {
                self.titles[title].digest = Some(digest);
                if let Some(memo) =
                    memo::find(&self.worker, self.ladder, &self.titles[title], digest, &self.tools)
                {
                    self.adopt(title, memo);
                    return Ok(());
                }
                let node = self.graph.add_node(Node::new(title, Step::Index, 0));
                self.graph.add_edge(id, node, ());
            }
            Payload::Index(index) if self.titles[title].index.is_none() => {
                self.titles[title].grow_spans(&mut self.graph, index);
            }
            Payload::Film(film) if self.titles[title].film.is_none() => {
                // With many titles open files would run out.
                self.titles[title].readers = None;
                self.grow_film(title, film)?;
            }
            Payload::Published => self.published(title)?,
            // Made a second time to repair the cache: the graph has grown already.
            Payload::Source(_) | Payload::Index(_) | Payload::Film(_) => {}
        }
        let all_heard = matches!(step, Step::Audio { .. }) && self.hear(title)?;
        let silent = matches!(step, Step::Chunk) && self.titles[title].renditions.is_empty();
        if (all_heard || silent) && self.titles[title].nodes.multivariant.is_none() {
            self.titles[title].grow_package(&mut self.graph);
        }
        self.measure_paths(before);
        for node in self.graph.node_indices().skip(before) {
            if self.graph[node].missing == 0 {
                self.fresh.push(node);
            }
        }
        Ok(())
    }

    pub(super) fn grow_film(&mut self, number: usize, film: Arc<Film>) -> Result<(), StepError> {
        let title = &mut self.titles[number];
        let warnings = title.grow_encodes(&mut self.graph, Arc::clone(&film), self.settings.jobs.min(8))?;
        for message in warnings {
            (self.observe)(&Event::Warning { title: title.name.clone(), message });
        }
        let chunks = 0..film.chunks.len();
        let rungs = 0..title.rungs.len();
        let title = &self.titles[number];
        let steps = rungs.flat_map(|rung| chunks.clone().map(move |chunk| Step::Encode { rung, chunk }));
        let samples = steps.filter_map(|step| self.encode_work(number, step)).map(|work| work.samples).sum();
        (self.observe)(&Event::Cut {
            title: title.name.clone(),
            chunks: film.chunks.len() as u64,
            rungs: title.rungs.len() as u64,
            seconds: film.seconds(film.duration()),
            samples,
        });
        Ok(())
    }

    /// Notes what the audio steps made; true once all of a title's are done.
    pub(super) fn hear(&mut self, number: usize) -> Result<bool, StepError> {
        let graph = &self.graph;
        let title = &mut self.titles[number];
        for (rendition, &audio) in title.renditions.iter_mut().zip(&title.nodes.audio) {
            let sound = title.nodes.sound[rendition.sound];
            let (Some(audio), Some(sound)) = (graph[audio].result(), graph[sound].result()) else {
                return Ok(false);
            };
            rendition.encoded = Some((facts::<SoundFacts>(sound)?, facts(audio)?));
        }
        Ok(true)
    }

    /// The longest remaining path of every node, found from the end; nodes are added after
    /// their inputs, so that going backwards meets every dependent first.
    pub(super) fn measure_paths(&mut self, before: usize) {
        if self.graph.node_count() == before {
            return;
        }
        for index in (0..self.graph.node_count()).rev() {
            let id = NodeIndex::new(index);
            let longest = self.graph.neighbors(id).map(|next| self.graph[next].path).max().unwrap_or(0);
            let Node { title, step, .. } = self.graph[id];
            let work = self.encode_work(title, step).map_or(1, |work| work.samples);
            self.graph[id].path = longest.saturating_add(work);
        }
    }

    pub(super) fn encode_work(&self, title: usize, step: Step) -> Option<EncodeWork> {
        let Step::Encode { rung, chunk } = step else {
            return None;
        };
        let title = &self.titles[title];
        let film = title.film.as_ref()?;
        let chunk = film.chunks.get(chunk)?;
        let picture = &title.rungs.get(rung)?.settings.picture;
        let samples = u64::from(picture.width) * u64::from(picture.height) * u64::from(chunk.frames);
        Some(EncodeWork { seconds: film.seconds(chunk.duration()), samples })
    }
}
