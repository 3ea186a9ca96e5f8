//! How far a build is: what its events add up to. Pure, so that a sequence of events tells all of it.

use std::collections::BTreeMap;

use rivet::{EncodeWork, Event, Kind, Origin};

/// Encodes of all titles that are known by now.
#[derive(Default)]
pub struct Tally {
    titles: BTreeMap<String, TitleTally>,
    /// What this build has encoded itself, over all rungs, as far as it has ended.
    pub encoded: EncodeWork,
}

#[derive(Default)]
struct TitleTally {
    rungs: u64,
    /// Luma samples to encode if nothing is cached.
    samples: u64,
    /// Encodes in all; 0 until the title is cut.
    encodes: u64,
    /// Encodes that have ended or were found in the cache, and their luma samples.
    done: u64,
    done_samples: u64,
}

impl Tally {
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::Totals { title, rungs, samples, .. } => {
                let known = TitleTally { rungs: *rungs, samples: *samples, ..TitleTally::default() };
                self.titles.insert(title.clone(), known);
            }
            Event::Chunked { title, chunks } => {
                if let Some(title) = self.titles.get_mut(title) {
                    title.encodes = chunks * title.rungs;
                }
            }
            Event::Finished { title, origin, encode, stands_for, .. } => {
                if let (Some(work), Origin::Ran) = (encode, origin) {
                    self.encoded.samples += work.samples;
                    self.encoded.seconds += work.seconds;
                }
                let Some(title) = self.titles.get_mut(title) else { return };
                title.add(u64::from(encode.is_some()), *encode);
                if let Some(pack) = stands_for {
                    title.add(pack.steps.get(&Kind::Encode).copied().unwrap_or(0), pack.encode);
                }
            }
            _ => {}
        }
    }

    /// Luma samples of all frames on all rungs: those that need no more work, and all.
    pub fn samples(&self) -> (u64, u64) {
        let titles = self.titles.values();
        titles.fold((0, 0), |sum, title| (sum.0 + title.done_samples, sum.1 + title.samples))
    }

    /// Encodes that need no more work; and all, unless a title is not cut yet.
    pub fn encodes(&self) -> (u64, Option<u64>) {
        let done = self.titles.values().map(|title| title.done).sum();
        let is_cut = self.titles.values().all(|title| title.encodes > 0);
        (done, is_cut.then(|| self.titles.values().map(|title| title.encodes).sum()))
    }
}

impl TitleTally {
    /// An encode whose result the cache has lost ends twice, so that there may be more than there should be.
    fn add(&mut self, encodes: u64, work: Option<EncodeWork>) {
        self.done += encodes;
        if self.encodes > 0 {
            self.done = self.done.min(self.encodes);
        }
        self.done_samples = (self.done_samples + work.map_or(0, |work| work.samples)).min(self.samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivet::{Run, StandsFor};

    fn film(title: &str, samples: u64) -> Event {
        Event::Totals { title: title.to_owned(), rungs: 2, seconds: 1.0, samples }
    }

    fn finished(title: &str, origin: Origin, samples: Option<u64>, pack: Option<(u64, u64)>) -> Event {
        let work = |samples| EncodeWork { seconds: 0.5, samples };
        Event::Finished {
            title: title.to_owned(),
            kind: if pack.is_some() { Kind::Pack } else { Kind::Encode },
            node: "720p/1".to_owned(),
            origin,
            run: Run::default(),
            encode: samples.map(work),
            stands_for: pack.map(|(steps, samples)| StandsFor {
                steps: [(Kind::Encode, steps), (Kind::Mux, steps)].into(),
                encode: Some(work(samples)),
            }),
        }
    }

    fn tally(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        events.iter().for_each(|event| tally.observe(event));
        tally
    }

    #[test]
    fn a_second_film_of_a_title_replaces_the_first() {
        let cut = |chunks| Event::Chunked { title: "a".to_owned(), chunks };
        let begun = [film("b", 40), film("a", 100), cut(3), finished("a", Origin::Ran, Some(30), None)];
        assert_eq!(tally(&begun).samples(), (30, 140));
        let again = [film("a", 110), finished("a", Origin::Cached, Some(30), None)];
        let all = tally(&[&begun[..], &again].concat());
        assert_eq!((all.samples(), all.encodes()), ((30, 150), (1, None)));
        // What has been encoded stays encoded: the rate is made of it.
        assert_eq!(all.encoded, EncodeWork { seconds: 0.5, samples: 30 });
        let whole = tally(&[&begun[1..], &again, &[cut(4)]].concat());
        assert_eq!(whole.encodes(), (1, Some(8)));
    }

    #[test]
    fn a_pack_counts_as_its_encodes_and_never_beyond_all_of_them() {
        let cut = Event::Chunked { title: "a".to_owned(), chunks: 100 };
        let pack = finished("a", Origin::Cached, None, Some((128, 640)));
        let rest = || (0..72).map(|_| finished("a", Origin::Ran, Some(5), None));
        let found = tally(&[film("a", 1000), cut.clone(), pack.clone()]);
        assert_eq!((found.samples(), found.encodes()), ((640, 1000), (128, Some(200))));
        assert_eq!(found.encoded, EncodeWork::default());
        // Two of the pack's segments were lost, and are encoded again.
        let events = [film("a", 1000), cut, pack].into_iter().chain(rest()).chain(rest().take(2));
        let all = tally(&events.collect::<Vec<_>>());
        assert_eq!((all.samples(), all.encodes()), ((1000, 1000), (200, Some(200))));
    }
}
