//! The HLS media playlist of a track.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache};
use crate::package::{self, ContentId, MediaPlaylist, PlaylistSegment};
use crate::spec::PackageFormat;
use crate::title::Title;
use crate::title::ids::TrackId;
use crate::title::part::Part;

use super::composed::{composition, is_composed, store_text};
use super::context::{Grant, StepContext};
use super::encode::track_label;
use super::error::{StepError, Stop};
use super::init::MuxInit;
use super::live::Live;
use super::recipe::Recipe;
use super::segments::{Segments, init_name, packs_of, path, segment_name};
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WritePlaylist {
    pub track: TrackId,
}

/// All that the playlist lists, which is its key, too.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    init: ContentId,
    /// Each with its duration in ticks.
    segments: Vec<(ContentId, u64)>,
    timescale: u32,
    /// Seconds.
    target_duration: u64,
}

impl Work {
    fn recipe(&self) -> Recipe {
        let Work { init, segments, timescale, target_duration } = self;
        let mut listed = blake3::Hasher::new();
        for (ContentId { digest, size: _ }, duration) in segments {
            listed.update(digest.as_bytes()).update(&duration.to_le_bytes());
        }
        Recipe::new("playlist", WritePlaylist::VERSION)
            .digest("initialisation segment", init.digest.into())
            .number("target duration (s)", i64::try_from(*target_duration).unwrap_or(i64::MAX))
            .number("timescale", *timescale)
            .digest("segments", listed.finalize().into())
    }
}

impl StepKind for WritePlaylist {
    const KIND: Kind = Kind::Playlist;
    const VERSION: u32 = 2;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/playlist", track_label(title, self.track))
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

    fn all(part: Part, title: &Title) -> Vec<WritePlaylist> {
        if part != Part::Package || !title.has_package() || !title.has_format(PackageFormat::Hls) {
            return Vec::new();
        }
        title.track_ids().map(|track| WritePlaylist { track }).collect()
    }

    fn count(title: &Title) -> u64 {
        if title.has_format(PackageFormat::Hls) { title.tracks.len() as u64 } else { 0 }
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        let init = Step::from(MuxInit { track: self.track });
        packs_of(title, self.track).map(Step::from).chain([init]).collect()
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
        let Segments { files, durations, timescale } = Segments::of(view.title, self.track)?;
        Ok(Work {
            init: composition(view.result(MuxInit { track: self.track })?)?.content,
            segments: files.into_iter().zip(durations).collect(),
            timescale,
            target_duration: view.title.target_duration(),
        })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { init, segments, timescale, target_duration } = work;
        let listed = segments.iter().enumerate().map(|(n, (blob, duration))| {
            Ok(PlaylistSegment { path: path(segment_name(n + 1, blob))?, duration: *duration })
        });
        let listed: Vec<PlaylistSegment> = listed.collect::<Result<_, StepError>>()?;
        let text = package::media_playlist(&MediaPlaylist {
            timescale,
            target_duration,
            init: &path(init_name(&init))?,
            segments: &listed,
        });
        Ok(Output::new(store_text(context, text.into_bytes())?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let blob = |digest: u8| ContentId::of(&[digest]);
        let of = |init, segments: &[(u8, u64)], timescale, target_duration| {
            let segments = segments.iter().map(|&(digest, duration)| (blob(digest), duration)).collect();
            Work { init: blob(init), segments, timescale, target_duration }.recipe()
        };
        vec![vec![
            of(1, &[(1, 5)], 25, 2),
            of(2, &[(1, 5)], 25, 2),
            of(1, &[(2, 5)], 25, 2),
            of(1, &[(1, 6)], 25, 2),
            of(1, &[(1, 5), (1, 5)], 25, 2),
            of(1, &[(1, 5)], 24, 2),
            of(1, &[(1, 5)], 25, 3),
        ]]
    }
}
