//! The HLS multivariant playlist: what a player of the title opens.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::package::{self, HlsError, Rendition};
use crate::spec::PackageFormat;
use crate::title::Title;
use crate::title::part::Part;

use super::composed::{is_composed, store_text};
use super::context::{Grant, StepContext};
use super::contract::CheckContract;
use super::error::{StepError, Stop};
use super::live::Live;
use super::playlist::WritePlaylist;
use super::recipe::Recipe;
use super::segments::{PLAYLIST, Segments, path};
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriteMultivariant;

/// Writing it takes less than looking it up, so its text is its own key.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    text: String,
}

impl Work {
    fn recipe(&self) -> Recipe {
        let Work { text } = self;
        Recipe::new("multivariant", WriteMultivariant::VERSION).digest("lists", Digest::of(text.as_bytes()))
    }
}

impl StepKind for WriteMultivariant {
    const KIND: Kind = Kind::Playlist;
    const VERSION: u32 = 2;

    type Fact = ();
    type Work = Work;

    fn label(self, _: &Title) -> String {
        "multivariant".to_owned()
    }

    fn group(self, title: &Title) -> String {
        self.label(title)
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (0, None)
    }

    fn all(part: Part, title: &Title) -> Vec<WriteMultivariant> {
        let exists = part == Part::Package && title.has_package() && title.has_format(PackageFormat::Hls);
        if exists { vec![WriteMultivariant] } else { Vec::new() }
    }

    fn count(title: &Title) -> u64 {
        u64::from(title.has_format(PackageFormat::Hls))
    }

    /// It tells measured bit rates, and codecs by the contract.
    fn inputs(self, title: &Title) -> Vec<Step> {
        let rungs = title.track_ids().filter(|&track| title.rung(track).is_some());
        let contracts = rungs.map(|track| CheckContract { track }.into());
        let playlists = title.track_ids().map(|track| WritePlaylist { track }.into());
        contracts.chain(playlists).collect()
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
        Ok(LookUp::Keys(vec![self.work(view, 0)?.recipe()]))
    }

    fn accept(self, _: &View<'_>, result: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Ok(is_composed(result).then_some(()))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let title = view.title;
        let target = title.target_duration();
        let mut renditions = Vec::with_capacity(title.tracks.len());
        for id in title.track_ids() {
            let name = view.track(id)?.name.clone();
            renditions.push(Rendition {
                playlist: path(format!("{name}/{PLAYLIST}"))?,
                name,
                track: title.described(id).ok_or_else(StepError::early)?,
                bandwidth: Segments::of(title, id)?.bandwidth(target),
            });
        }
        let text = package::multivariant_playlist(&renditions);
        Ok(Work { text: text.map_err(|error: HlsError| StepError::Spec(error.to_string()))? })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        Ok(Output::new(store_text(context, work.text.into_bytes())?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let of = |text: &str| Work { text: text.to_owned() }.recipe();
        vec![vec![of("a"), of("b")]]
    }
}
