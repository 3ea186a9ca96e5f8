//! The initialisation segment of a track: what is said once for all of its segments.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::package;
use crate::stream;
use crate::title::Title;
use crate::title::ids::TrackId;
use crate::title::part::Part;
use crate::title::track::Medium;

use super::audio_analysis::AnalyzeAudio;
use super::composed::{is_composed, store_text};
use super::context::{Grant, StepContext};
use super::contract::CheckContract;
use super::encode::track_label;
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MuxInit {
    pub track: TrackId,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    track: stream::Track,
    /// What the track's encodes have in common of what a decoder needs first; empty where there is nothing.
    header: Vec<u8>,
    /// 48 kHz samples by which audio starts after the video.
    offset: i64,
}

impl Work {
    fn recipe(&self) -> Recipe {
        let Work { track, header, offset } = self;
        let stream::Track { medium, timescale, pre_skip, language, .. } = track;
        let recipe = Recipe::new("init", MuxInit::VERSION);
        match medium {
            // Everything else that is said of video follows from the header.
            stream::Medium::Video { .. } => recipe
                .text("medium", "video")
                .digest("sequence header", Digest::of(header))
                .number("timescale", *timescale),
            stream::Medium::Audio { channels, sample_rate } => recipe
                .text("medium", "audio")
                .text("codec", &track.codecs)
                .number("offset", *offset)
                .number("channels", *channels)
                .number("pre-skip", *pre_skip)
                .number("input sample rate", *sample_rate)
                .text("language", language.as_ref().map_or("", |language| language.as_str())),
        }
    }
}

impl StepKind for MuxInit {
    const KIND: Kind = Kind::Mux;
    const VERSION: u32 = 3;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/init", track_label(title, self.track))
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

    fn all(part: Part, title: &Title) -> Vec<MuxInit> {
        if part != Part::Package || !title.has_package() {
            return Vec::new();
        }
        title.track_ids().map(|track| MuxInit { track }).collect()
    }

    fn count(title: &Title) -> u64 {
        title.tracks.len() as u64
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        match title.track(self.track).map(|track| &track.medium) {
            Some(Medium::Video(_)) => vec![CheckContract { track: self.track }.into()],
            Some(Medium::Audio(_)) | None => Vec::new(),
        }
    }

    fn told_by(self, title: &Title) -> Vec<Step> {
        let rendition = title.rendition(self.track);
        rendition.map(|(rendition, _)| AnalyzeAudio { audio: rendition.audio }.into()).into_iter().collect()
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
        let id = self.track;
        let track = view.title.described(id).ok_or_else(StepError::early)?;
        if view.rung(id).is_ok() {
            let header = view.result(CheckContract { track: id })?.facts.clone();
            return Ok(Work { track, header, offset: 0 });
        }
        let (_, input) = view.rendition(id)?;
        let (facts, _) = input.analysis.as_ref().ok_or_else(StepError::early)?;
        Ok(Work { track, header: Vec::new(), offset: facts.offset })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { track, header, offset } = work;
        // Audio from before the video is skipped like the pre-skip.
        let early = (-offset).max(0) as u64;
        let bytes = package::init_segment(&track, &header, early).map_err(StepError::internal)?;
        Ok(Output::new(store_text(context, bytes)?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        use crate::stream::{AudioCodec, Contract, Language, Role};
        let format = super::encode::example_format();
        let rate = crate::media::Rational { num: 25, den: 1 };
        let contract = Contract::new(&format, rate).expect("a level");
        let video = |header: &[u8], timescale| {
            Work { track: contract.track(timescale, rate), header: header.to_vec(), offset: 0 }.recipe()
        };
        let audio = |offset, channels, pre_skip, sample_rate, language: &str| {
            let mut track = AudioCodec::Opus.track(channels, sample_rate, Language::new(language), Role::Main);
            track.pre_skip = pre_skip;
            Work { track, header: Vec::new(), offset }.recipe()
        };
        let other_codec = {
            let mut track = AudioCodec::Opus.track(2, 48_000, Language::new("en"), Role::Main);
            track.codecs = "other".to_owned();
            Work { track, header: Vec::new(), offset: 0 }.recipe()
        };
        vec![
            vec![video(b"a", 25), video(b"b", 25), video(b"a", 24), audio(0, 2, 312, 48_000, "en")],
            vec![
                audio(0, 2, 312, 48_000, "en"),
                audio(1, 2, 312, 48_000, "en"),
                audio(0, 1, 312, 48_000, "en"),
                audio(0, 2, 311, 48_000, "en"),
                audio(0, 2, 312, 44_100, "en"),
                audio(0, 2, 312, 48_000, "de"),
                video(b"a", 25),
                other_codec,
            ],
        ]
    }
}
