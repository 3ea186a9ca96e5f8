//! How much work steps are, for events: progress and estimates are made of it. Nothing is decided by it.

use super::Scheduler;
use crate::graph::event::{EncodeWork, Event, Kind, StandsFor};
use crate::graph::rung;
use crate::graph::step::Step;
use crate::media::{Rational, VideoTrack};

impl Scheduler<'_> {
    /// How much an encode is; `None` for other steps.
    pub(super) fn encode_work(&self, title: usize, step: Step) -> Option<EncodeWork> {
        let Step::Encode { track, piece } = step else {
            return None;
        };
        let title = &self.titles[title];
        let chunk = title.chunks.get(piece)?;
        let picture = &title.tracks.get(track)?.rung()?.picture;
        let samples = u64::from(picture.width) * u64::from(picture.height) * u64::from(chunk.frames);
        Some(EncodeWork { seconds: title.timing.as_ref()?.seconds(chunk.duration()), samples })
    }

    /// What a pack stands for as long as its steps have no nodes of their own; `None` for other steps.
    pub(super) fn stands_for(&self, title: usize, step: Step) -> Option<StandsFor> {
        let steps = self.titles[title].unseen_on(step).into_iter().filter(|&(_, steps)| steps > 0).collect();
        let stands_for = StandsFor { steps, encode: None };
        if stands_for.steps.is_empty() {
            return None;
        }
        let encode =
            stands_for.steps.contains_key(&Kind::Encode).then(|| self.encode_work_of_pack(title, step));
        Some(StandsFor { encode, ..stands_for })
    }

    /// How much the encodes of a pack are that have no nodes of their own.
    fn encode_work_of_pack(&self, title: usize, step: Step) -> EncodeWork {
        let Step::Reel { track, reel } = step else { return EncodeWork::default() };
        let made = &self.titles[title].tracks[track];
        let pieces = made.reels.get(reel).map_or(0..0, |reel| reel.pieces.clone());
        let has_no_node = |piece: &usize| made.pieces.get(*piece).is_some_and(|nodes| nodes.encode.is_none());
        let works = pieces.filter(has_no_node).filter_map(|piece| {
            let encode = Step::Encode { track, piece };
            self.encode_work(title, encode)
        });
        works.fold(EncodeWork::default(), |sum, work| EncodeWork {
            seconds: sum.seconds + work.seconds,
            samples: sum.samples + work.samples,
        })
    }

    /// Tells how much there will be to encode of a title, by what the container says.
    pub(super) fn tell_expected(&self, title: usize) {
        let title = &self.titles[title];
        let Some(track) = title.index.as_ref().map(|index| &index.video) else { return };
        let sizes = title.spec_rungs.iter().filter_map(|spec| rung::size(spec, track).ok());
        (self.observe)(&Event::Film {
            title: title.name.clone(),
            rungs: title.spec_rungs.len() as u64,
            seconds: seconds_claimed(track),
            samples: sizes.map(|(w, h)| u64::from(w) * u64::from(h) * track.packets).sum(),
        });
    }
}

/// How long a track is by its time stamps, or, without any, by the rate that the container claims.
fn seconds_claimed(track: &VideoTrack) -> f64 {
    let stamps = if track.stamps.is_empty() { &track.sorted_stamps } else { &track.stamps };
    let ratio = |ratio: &Rational| ratio.num as f64 / ratio.den.max(1) as f64;
    match (stamps.iter().min(), stamps.iter().max(), track.claimed_rates.first()) {
        (Some(first), Some(last), _) => {
            (last.abs_diff(*first) + track.last_duration) as f64 * ratio(&track.time_base)
        }
        (_, _, Some(rate)) if rate.num > 0 => track.packets as f64 / ratio(rate),
        _ => 0.0,
    }
}
