//! A pack of decoded spans: one look-up, and one blob, that stands for up to 128 of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::title::assemble::DecodedSpan;
use crate::title::ids::PackId;
use crate::title::part::Part;
use crate::title::{Title, span_ids};

use super::context::{Grant, StepContext, encoded};
use super::decode::DecodeSpan;
use super::error::{StepError, Stop};
use super::index::IndexSource;
use super::live::Live;
use super::recipe::Recipe;
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, StandsFor, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackSpans {
    pub pack: PackId,
}

/// The spans' blobs, in order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    spans: Vec<BlobRef>,
}

struct Key<'a> {
    parameters: Digest,
    /// Of each span.
    packets: Vec<Digest>,
    decoder: &'a str,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { parameters, packets, decoder } = self;
        Recipe::new("decode pack", PackSpans::VERSION)
            .number("decode version", DecodeSpan::VERSION)
            .digest("codec parameters", *parameters)
            .list("packets", packets.iter().copied())
            .text("decoder", *decoder)
    }
}

impl StepKind for PackSpans {
    const KIND: Kind = Kind::Pack;
    const VERSION: u32 = 1;

    type Fact = ();
    type Work = Work;

    fn label(self, _: &Title) -> String {
        format!("decode/pack/{}", self.pack)
    }

    fn group(self, _: &Title) -> String {
        "decode/pack".to_owned()
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (0, Some(self.pack.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<PackSpans> {
        match part {
            Part::Spans(pack) if pack.index() < title.span_packs() => vec![PackSpans { pack }],
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        title.span_packs() as u64
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        if !title.is_span_pack_unpacked(self.pack) {
            return vec![IndexSource.into()];
        }
        span_ids(title.spans_of(self.pack)).map(|span| DecodeSpan { span }.into()).collect()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn packing(self, title: &Title) -> Packing {
        let is_packed = !title.is_span_pack_unpacked(self.pack);
        let spans = title.spans_of(self.pack).len() as u64;
        let steps = if is_packed { [(Kind::Decode, spans)].into() } else { BTreeMap::new() };
        Packing::Pack { is_packed, stands_for: StandsFor { steps, encode: None } }
    }

    fn unpack(self, title: &mut Title) {
        title.unpack_spans(self.pack);
    }

    /// The spans' results are in the pack's own.
    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<()>, StepError> {
        let track = view.title.video().ok_or_else(StepError::early)?;
        let spans = track.spans.get(view.title.spans_of(self.pack)).ok_or_else(StepError::early)?;
        let packets = spans.iter().map(|span| Digest(span.digest.0)).collect();
        let decoder = &view.tools.decoder_of(track);
        let key = Key { parameters: Digest(track.parameters), packets, decoder };
        Ok(LookUp::Keys(vec![key.recipe()]))
    }

    fn accept(self, _: &View<'_>, _: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        // Whoever needs it reads it, and has it made again if it is damaged.
        Ok(Some(()))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let spans = span_ids(view.title.spans_of(self.pack)).map(|span| view.blob(DecodeSpan { span }));
        Ok(Work { spans: spans.collect::<Result<_, _>>()? })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let decoded = work.spans.iter().map(|blob| context.load(blob));
        let decoded = decoded.collect::<Result<Vec<DecodedSpan>, _>>()?;
        Ok(Output::new(context.store(&encoded(&decoded)?, Vec::new())?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let of = |parameters, packets: &[u8], decoder| {
            let packets = packets.iter().map(|&packets| Digest([packets; 32])).collect();
            Key { parameters: Digest([parameters; 32]), packets, decoder }.recipe()
        };
        vec![vec![
            of(1, &[1, 2], "a"),
            of(2, &[1, 2], "a"),
            of(1, &[2, 1], "a"),
            of(1, &[1, 2, 3], "a"),
            of(1, &[1, 2], "b"),
        ]]
    }
}
