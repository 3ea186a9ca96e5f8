//! A title's whole result, stored under the ladder, the source and the tools that made it: where
//! the output folder still holds it, a build looks at no other step.

use serde::{Deserialize, Serialize};

use super::event::TitleSummary;
use crate::cache::{Cache, CacheEntry, Cost, Digest, EntryKey, EntryResult};
use crate::media::AudioDecoder;
use crate::package::{FileList, is_current, published_list};
use crate::spec::Ladder;
use crate::steps::context::StepContext;
use crate::steps::recipe::Recipe;
use crate::steps::tools::Tools;
use crate::steps::{ENTRY, Kind, StepError, VERSIONS, counts};
use crate::title::{AudioInput, Title};

/// What the cache calls such an entry.
const KIND: &str = "title";

#[derive(Serialize, Deserialize)]
pub struct CachedTitle {
    /// Steps of each kind, all of which are up to date.
    pub steps: Vec<(Kind, u64)>,
    /// The digest of the list of all files that were published.
    list: Digest,
    summary: TitleSummary,
    /// The CPU that made it, where its sound depends on that.
    cpu: Option<String>,
}

impl CachedTitle {
    /// Where the title lies and what this build encoded of it are no one else's: whoever makes the same
    /// title leaves the same cached.
    pub fn new(title: &Title, files: &FileList, mut summary: TitleSummary, tools: &Tools) -> CachedTitle {
        summary.entry = String::new();
        for track in summary.rungs.iter_mut().chain(&mut summary.audio) {
            track.encoded = 0;
        }
        let is_exact = |audio: &AudioInput| AudioDecoder::of(&audio.source.track.codec).is_exact;
        CachedTitle {
            steps: counts(title),
            list: files.digest().into(),
            summary,
            cpu: (!title.audio.iter().all(is_exact)).then(|| tools.cpu.clone()),
        }
    }

    /// The summary as of a build that encodes nothing. Name and place are the title's own: another one
    /// may have left the cached.
    pub fn summary_for(&self, title: &Title) -> TitleSummary {
        let mut summary = self.summary.clone();
        summary.name = title.name.clone();
        summary.entry = title.output.join(ENTRY).display().to_string();
        summary
    }
}

/// All of a ladder but where things lie.
fn digest(ladder: &Ladder) -> Result<Digest, StepError> {
    let Ladder { segments, rungs, audio, package, path: _, named: _, text: _, titles: _, cache: _ } = ladder;
    let bytes = postcard::to_stdvec(&(segments, rungs, audio, package)).map_err(StepError::internal)?;
    Ok(Digest::of(&bytes))
}

/// Bump it when what is stored for a title changes; the versions of all steps are in the key, too.
const VERSION: u32 = 5;

fn recipe(ladder: Digest, source: Digest, tools: &str, versions: &[u32]) -> Recipe {
    Recipe::new(KIND, VERSION)
        .digest("ladder", ladder)
        .digest("source", source)
        .text("tools", tools)
        .numbers("step version", versions.iter().copied())
}

#[cfg(test)]
pub(crate) fn example_key() -> Recipe {
    recipe(Digest([1; 32]), Digest([2; 32]), "a", &[1, 2])
}

/// The key of the entry from which all that a title is made of can be reached.
pub fn key(ladder: &Ladder, source: Digest, tools: &Tools) -> Result<EntryKey, StepError> {
    let encoders =
        ladder.rungs.iter().flat_map(|rung| &rung.encoders).map(|encoder| encoder.name()).collect();
    Ok(recipe(digest(ladder)?, source, &tools.summary(&encoders), &VERSIONS).key())
}

/// The name of the title that an entry is of, as it was called when it was built.
pub fn title_of(cache: &dyn Cache, entry: &CacheEntry) -> Option<String> {
    if entry.cost.kind != KIND {
        return None;
    }
    let bytes = cache.blob(entry.result.blobs.first()?).ok()??;
    let cached: CachedTitle = postcard::from_bytes(&bytes).ok()?;
    Some(cached.summary.name)
}

/// What is stored of a title whose output folder is as it was left. A damaged or missing entry, or a
/// folder that was touched, only means that the steps are looked at one by one.
pub fn find(context: &StepContext, ladder: &Ladder, title: &Title, tools: &Tools) -> Option<CachedTitle> {
    // Where nothing was published there is none to be looked for, perhaps far away.
    published_list(&title.output)?;
    let entry = context.cache.find_entry(&key(ladder, title.digest?, tools).ok()?).ok()??;
    let bytes = context.cache.blob(entry.result.blobs.first()?).ok()??;
    let cached: CachedTitle = postcard::from_bytes(&bytes).ok()?;
    let is_ours = cached.cpu.as_ref().is_none_or(|cpu| *cpu == tools.cpu);
    (is_ours && is_current(&title.output, cached.list.into())).then_some(cached)
}

/// Stores it, with the keys of the entries that make up the title.
pub fn store(
    context: &StepContext,
    ladder: &Ladder,
    source: Digest,
    tools: &Tools,
    cached: &CachedTitle,
    inputs: Vec<EntryKey>,
) -> Result<(), StepError> {
    let bytes = postcard::to_stdvec(cached).map_err(StepError::internal)?;
    let result = EntryResult { facts: Vec::new(), blobs: vec![context.cache.put_blob(&bytes)?] };
    let entry = CacheEntry { result, inputs, cost: Cost { kind: KIND.to_owned(), ..Cost::default() } };
    Ok(context.cache.put_entry(&key(ladder, source, tools)?, &entry)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::parse;

    const SPEC: &str = "[title]\nsource = 'a.mp4'\noutput = 'out'\n[segments]\ntarget = '2s'\nmax = '4s'\n\
                        [encoder.rav1e]\nspeed = 9\n[encoder.libaom-av1]\ncpu-used = 6\n\
                        [[rung]]\nname = 'a'\nheight = 720\nencoder = ['rav1e', 'libaom-av1']\n\
                        [[audio]]\nname = 'main'\nbitrate = '96k'\n[cache]\ndir = 'cache'\n";

    fn digest_of(spec: &str) -> Digest {
        digest(&parse(spec, Path::new("/no/ladder.toml")).unwrap()).unwrap()
    }

    #[test]
    fn every_field_counts() {
        let of = |ladder, source, tools, versions: &[u32]| {
            recipe(Digest([ladder; 32]), Digest([source; 32]), tools, versions).key()
        };
        let keys = [
            of(1, 1, "a", &[1, 2]),
            of(2, 1, "a", &[1, 2]),
            of(1, 2, "a", &[1, 2]),
            of(1, 1, "b", &[1, 2]),
            of(1, 1, "a", &[1, 3]),
        ];
        assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    }

    /// The encoding is a promise to every cache that is already filled, whatever builds rivet.
    #[test]
    fn golden_ladder() {
        assert_eq!(
            digest_of(SPEC).to_string(),
            "e3893ada4d703ce72c7a1e94591271b1321e09d8dc67343812f4fe28d56ebfa6"
        );
    }

    #[test]
    fn all_of_a_ladder_counts_but_where_things_lie() {
        let changes = [
            ("'2s'", "'3s'"),
            ("'4s'", "'5s'"),
            ("target =", "min = '1s'\ntarget ="),
            ("target = '2s'\nmax = '4s'", "mode = 'fixed'"),
            ("speed = 9", "speed = 8"),
            ("cpu-used = 6", "cpu-used = 7"),
            ("'a'\n", "'b'\n"),
            ("720", "360"),
            ("height", "width"),
            ("['rav1e', 'libaom-av1']", "['libaom-av1', 'rav1e']"),
            ("encoder =", "crf = 31\nencoder ="),
            ("encoder =", "bit_depth = 10\nencoder ="),
            ("'main'", "'other'"),
            ("96k", "97k"),
            ("bitrate", "channels = 1\nbitrate"),
            ("bitrate", "language = 'en'\nbitrate"),
            ("bitrate", "track = 0\nbitrate"),
        ];
        let mut digests = vec![digest_of(SPEC)];
        for (from, to) in changes {
            assert!(SPEC.contains(from), "{from}");
            digests.push(digest_of(&SPEC.replacen(from, to, 1)));
        }
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), count);
        let moved =
            SPEC.replace("a.mp4", "b.mp4").replace("'out'", "'dist'").replace("'cache'", "'elsewhere'");
        assert_eq!(digest_of(&moved), digest_of(SPEC));
    }
}
