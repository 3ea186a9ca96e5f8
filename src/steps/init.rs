//! The initialisation segment of a track: what is said once for all of its segments.

use serde::{Deserialize, Serialize};

use crate::cache::{ActionResult, BlobRef, Cache, Digest};
use crate::media::{OPUS_FRAME, OPUS_PRE_SKIP};
use crate::package::{self, Language};
use crate::title::Title;
use crate::title::ids::TrackId;
use crate::title::part::Part;
use crate::title::track::Medium;

use super::audio_analysis::AnalyzeAudio;
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

/// All that the segment says, which is its key, too.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    Video {
        sequence_header: Vec<u8>,
        timescale: u32,
    },
    Audio {
        /// 48 kHz samples by which the audio starts after the video.
        offset: i64,
        channels: u8,
        pre_skip: u16,
        /// Of the source.
        sample_rate: u32,
        /// A language tag; may be empty.
        language: String,
    },
}

impl Work {
    fn recipe(&self) -> Recipe {
        let recipe = Recipe::new("init", MuxInit::VERSION);
        match self {
            Work::Video { sequence_header, timescale } => recipe
                .text("medium", "video")
                .digest("sequence header", Digest::of(sequence_header))
                .number("timescale", *timescale),
            Work::Audio { offset, channels, pre_skip, sample_rate, language } => recipe
                .text("medium", "audio")
                .number("offset", *offset)
                .number("channels", *channels)
                .number("pre-skip", *pre_skip)
                .number("input sample rate", *sample_rate)
                .text("language", language),
        }
    }
}

impl StepKind for MuxInit {
    const KIND: Kind = Kind::Mux;
    const VERSION: u32 = 2;

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

    fn packing(self, _: &Title) -> Packing {
        Packing::Alone
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<()>, StepError> {
        Ok(LookUp::Keys(vec![self.work(view, 0)?.recipe()]))
    }

    fn accept(self, _: &View<'_>, _: &ActionResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Ok(Some(()))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let track = self.track;
        if view.rung(track).is_ok() {
            let sequence_header = view.result(CheckContract { track })?.facts.clone();
            return Ok(Work::Video { sequence_header, timescale: view.title.timescale(track) });
        }
        let (rendition, input) = view.rendition(track)?;
        let (facts, _) = input.analysis.as_ref().ok_or_else(StepError::early)?;
        let language = rendition.language.as_ref().map_or("", |language| language.as_str());
        Ok(Work::Audio {
            offset: facts.offset,
            channels: input.source.channels,
            pre_skip: OPUS_PRE_SKIP,
            sample_rate: input.source.track.sample_rate,
            language: language.to_owned(),
        })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let bytes = match work {
            Work::Video { sequence_header, timescale } => {
                package::video_init(&package::VideoTrack { timescale, sequence_header_obu: &sequence_header })
            }
            Work::Audio { offset, channels, pre_skip, sample_rate, language } => {
                package::audio_init(&package::AudioTrack {
                    channels,
                    pre_skip,
                    input_sample_rate: sample_rate,
                    // Audio from before the video is skipped like the pre-skip.
                    media_time: u64::from(pre_skip) + (-offset).max(0) as u64,
                    packet_duration: OPUS_FRAME as u32,
                    language: Language::new(&language).as_ref(),
                })
            }
        };
        let bytes = bytes.map_err(StepError::internal)?;
        Ok(Output::new(context.store(&bytes, Vec::new())?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let video =
            |header: &[u8], timescale| Work::Video { sequence_header: header.to_vec(), timescale }.recipe();
        let audio = |offset, channels, pre_skip, sample_rate, language: &str| {
            let language = language.to_owned();
            Work::Audio { offset, channels, pre_skip, sample_rate, language }.recipe()
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
            ],
        ]
    }
}
