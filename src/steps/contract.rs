//! That all encodes of a rung agree in what its initialisation segment says once for all of them.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::executors::Contract;
use crate::media::av1::SequenceHeader;
use crate::title::Title;
use crate::title::ids::TrackId;
use crate::title::part::Part;

use super::context::{Grant, StepContext, facts};
use super::encode::track_label;
use super::error::{StepError, Stop};
use super::live::Live;
use super::pack::PackFacts;
use super::recipe::Recipe;
use super::segments::packs_of;
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckContract {
    pub track: TrackId,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    rung: String,
    contract: Contract,
    headers: Vec<Vec<u8>>,
}

struct Key<'a> {
    contract: &'a Contract,
    /// The set of distinct sequence headers, which stands for all encodes.
    headers: Vec<Digest>,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { contract, headers } = self;
        let SequenceHeader {
            seq_profile,
            still_picture,
            seq_level_idx,
            seq_tier,
            initial_display_delay,
            bit_depth,
            mono_chrome,
            subsampling_x,
            subsampling_y,
            color_primaries,
            transfer_characteristics,
            matrix_coefficients,
            color_range,
            chroma_sample_position,
            max_frame_width,
            max_frame_height,
        } = contract.header();
        Recipe::new("contract", CheckContract::VERSION)
            .number("profile", *seq_profile)
            .number("still picture", i64::from(*still_picture))
            .number("level", *seq_level_idx)
            .number("tier", i64::from(*seq_tier))
            .number("initial display delay", initial_display_delay.map_or(-1, i64::from))
            .number("bit depth", *bit_depth)
            .number("monochrome", i64::from(*mono_chrome))
            .number("subsampling x", i64::from(*subsampling_x))
            .number("subsampling y", i64::from(*subsampling_y))
            .number("colour primaries", *color_primaries)
            .number("transfer characteristics", *transfer_characteristics)
            .number("matrix coefficients", *matrix_coefficients)
            .number("full range", i64::from(*color_range))
            .number("chroma sample position", *chroma_sample_position)
            .number("width", *max_frame_width)
            .number("height", *max_frame_height)
            .digests("sequence header", headers.iter().copied())
    }
}

impl CheckContract {
    /// The distinct sequence headers of the rung's encodes, sorted.
    fn headers(self, view: &View<'_>) -> Result<Vec<Vec<u8>>, StepError> {
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for pack in packs_of(view.title, self.track) {
            headers.extend(facts::<PackFacts>(view.result(pack)?)?.headers);
        }
        headers.sort();
        headers.dedup();
        Ok(headers)
    }
}

impl StepKind for CheckContract {
    const KIND: Kind = Kind::Contract;
    const VERSION: u32 = 2;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/contract", track_label(title, self.track))
    }

    fn group(self, title: &Title) -> String {
        self.label(title)
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.track.index(), None)
    }

    fn all(part: Part, title: &Title) -> Vec<CheckContract> {
        if part != Part::Package || !title.has_package() {
            return Vec::new();
        }
        let rungs = title.track_ids().filter(|&track| title.rung(track).is_some());
        rungs.map(|track| CheckContract { track }).collect()
    }

    fn count(title: &Title) -> u64 {
        title.tracks.iter().filter(|track| track.rung().is_some()).count() as u64
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        packs_of(title, self.track).map(Step::from).collect()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn packing(self, _: &Title) -> Packing {
        Packing::Alone
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<()>, StepError> {
        let headers = self.headers(view)?.iter().map(|header| Digest::of(header)).collect();
        let contract = &view.rung(self.track)?.contract;
        Ok(LookUp::Keys(vec![Key { contract, headers }.recipe()]))
    }

    fn accept(self, _: &View<'_>, _: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Ok(Some(()))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let rung = view.rung(self.track)?;
        let headers = self.headers(view)?;
        Ok(Work { rung: rung.name.clone(), contract: rung.contract.clone(), headers })
    }

    /// The result is the header that the initialisation segment carries.
    fn run(work: Work, _: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { rung, contract, headers } = work;
        for header in &headers {
            let broken = |error| StepError::Spec(format!("rung {rung}: {error}"));
            contract.check(header).map_err(broken)?;
        }
        let first = headers.into_iter().next().ok_or_else(|| StepError::internal("a rung without segments"))?;
        Ok(Output::new(EntryResult { facts: first, blobs: Vec::new() }, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let base = SequenceHeader {
            seq_profile: 0,
            still_picture: false,
            seq_level_idx: 1,
            seq_tier: false,
            initial_display_delay: None,
            bit_depth: 8,
            mono_chrome: false,
            subsampling_x: true,
            subsampling_y: true,
            color_primaries: 1,
            transfer_characteristics: 1,
            matrix_coefficients: 1,
            color_range: false,
            chroma_sample_position: 0,
            max_frame_width: 640,
            max_frame_height: 360,
        };
        let of = |header: &SequenceHeader, headers: &[u8]| {
            let headers = headers.iter().map(|&header| Digest([header; 32])).collect();
            Key { contract: &Contract::example(header.clone()), headers }.recipe()
        };
        let changes: [&dyn Fn(&mut SequenceHeader); 16] = [
            &|h| h.seq_profile = 1,
            &|h| h.still_picture = true,
            &|h| h.seq_level_idx = 2,
            &|h| h.seq_tier = true,
            &|h| h.initial_display_delay = Some(1),
            &|h| h.bit_depth = 10,
            &|h| h.mono_chrome = true,
            &|h| h.subsampling_x = false,
            &|h| h.subsampling_y = false,
            &|h| h.color_primaries = 9,
            &|h| h.transfer_characteristics = 16,
            &|h| h.matrix_coefficients = 9,
            &|h| h.color_range = true,
            &|h| h.chroma_sample_position = 1,
            &|h| h.max_frame_width = 642,
            &|h| h.max_frame_height = 362,
        ];
        let mut keys = vec![of(&base, &[1]), of(&base, &[2]), of(&base, &[1, 2])];
        keys.extend(changes.iter().map(|change| {
            let mut other = base.clone();
            change(&mut other);
            of(&other, &[1])
        }));
        vec![keys]
    }
}
