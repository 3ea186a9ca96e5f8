//! The output folder: holds exactly the title's files. What it writes lies outside the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache};
use crate::package::{self, ContentId, FileList, PublishError, PublishFile, Role, is_current};
use crate::spec::PackageFormat;
use crate::title::Title;
use crate::title::part::Part;

use super::composed::{Composed, ComposedPack, composition};
use super::context::{Grant, StepContext};
use super::error::{StepError, Stop};
use super::init::MuxInit;
use super::live::Live;
use super::multivariant::WriteMultivariant;
use super::playlist::WritePlaylist;
#[cfg(test)]
use super::recipe::Recipe;
use super::segments::{ENTRY, PLAYLIST, Segments, init_name, packs_of, path, segment_name};
use super::view::View;
use super::{
    Effect, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Publish;

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    folder: PathBuf,
    /// Paths in the folder.
    files: Vec<(String, ContentId, Role)>,
    /// What they are made of.
    composed: Composed,
}

impl StepKind for Publish {
    const KIND: Kind = Kind::Publish;
    const VERSION: u32 = 1;

    type Fact = ();
    type Work = Work;

    fn label(self, _: &Title) -> String {
        "publish".to_owned()
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

    fn all(part: Part, title: &Title) -> Vec<Publish> {
        if part == Part::Package && title.has_package() { vec![Publish] } else { Vec::new() }
    }

    fn count(_: &Title) -> u64 {
        1
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        let mut inputs = Vec::new();
        for track in title.track_ids() {
            inputs.extend(packs_of(title, track).map(Step::from));
        }
        inputs.extend(singles(title).iter().map(|single| single.step));
        inputs
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
        let files = files(view)?;
        let current = view.outside.unpublished || is_current(&view.title.output, files.digest());
        view.live.set_files(Arc::new(files));
        Ok(if current { LookUp::Current(EntryResult::default(), ()) } else { LookUp::Stale })
    }

    fn accept(self, _: &View<'_>, _: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Err(StepError::internal("an output folder in the cache"))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let files = view.live.files().ok_or_else(StepError::early)?;
        let listed = files.files().iter();
        let listed = listed.map(|file| {
            let content = ContentId { digest: file.digest, size: file.size };
            (file.path.to_string(), content, file.role)
        });
        let folder = view.title.output.clone();
        Ok(Work { folder, files: listed.collect(), composed: made_of(view)? })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { folder, files, composed } = work;
        let files = files.into_iter().map(|(name, content, role)| file(name, content, role));
        let files = FileList::new(files.collect::<Result<_, _>>()?).map_err(StepError::Publish)?;
        publish(context, &folder, &files, &composed)?;
        Ok(Output::new(EntryResult::default(), ()))
    }

    fn learn(self, _: &mut Title, live: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        live.frames = None;
        Ok(vec![Effect::Published])
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        // It is outside the cache.
        Vec::new()
    }
}

fn file(name: String, content: ContentId, role: Role) -> Result<PublishFile, StepError> {
    Ok(PublishFile { path: path(name)?, size: content.size, digest: content.digest, role })
}

/// A file that a step of its own makes.
struct Single {
    step: Step,
    /// Its track's folder; the output folder itself for none.
    folder: Option<String>,
    name: fn(&ContentId) -> String,
    role: Role,
}

/// The one list of files that are no segments.
fn singles(title: &Title) -> Vec<Single> {
    let hls = title.has_format(PackageFormat::Hls);
    let mut singles = Vec::new();
    for track in title.track_ids() {
        let folder = title.track(track).map(|track| track.name.clone());
        let init = MuxInit { track }.into();
        singles.push(Single { step: init, folder: folder.clone(), name: init_name, role: Role::Media });
        if hls {
            let step = WritePlaylist { track }.into();
            singles.push(Single { step, folder, name: |_| PLAYLIST.to_owned(), role: Role::Playlist });
        }
    }
    if hls {
        let step = WriteMultivariant.into();
        singles.push(Single { step, folder: None, name: |_| ENTRY.to_owned(), role: Role::Entry });
    }
    singles
}

impl Single {
    fn path(&self, content: &ContentId) -> String {
        let name = (self.name)(content);
        self.folder.as_ref().map_or(name.clone(), |folder| format!("{folder}/{name}"))
    }
}

/// Every file of the output folder.
fn files(view: &View<'_>) -> Result<FileList, StepError> {
    let title = view.title;
    let mut files = Vec::new();
    for single in singles(title) {
        let content = composition(view.results.result(single.step).ok_or_else(StepError::early)?)?.content;
        files.push(file(single.path(&content), content, single.role)?);
    }
    let mut tracks = Vec::new();
    for id in title.track_ids() {
        tracks.push((&view.track(id)?.name, Segments::of(title, id)?.files));
    }
    let of_track = |(folder, segments): (&String, Vec<ContentId>)| {
        let segments = segments.into_iter().enumerate();
        let segments = segments.map(|(number, segment)| {
            file(format!("{folder}/{}", segment_name(number + 1, &segment)), segment, Role::Media)
        });
        segments.collect()
    };
    let by_track: Vec<Vec<PublishFile>> =
        tracks.into_par_iter().map(of_track).collect::<Result<_, StepError>>()?;
    files.reserve(by_track.iter().map(Vec::len).sum());
    by_track.into_iter().for_each(|of_track| files.extend(of_track));
    FileList::new(files).map_err(StepError::Publish)
}

/// What the files of the output folder are made of.
fn made_of(view: &View<'_>) -> Result<Composed, StepError> {
    let title = view.title;
    let mut made = BTreeMap::new();
    for single in singles(title) {
        let result = view.results.result(single.step).ok_or_else(StepError::early)?;
        made.insert(single.path(&composition(result)?.content), (**result).clone());
    }
    let mut packs = Vec::new();
    for id in title.track_ids() {
        for (step, pack) in packs_of(title, id).zip(&view.track(id)?.packs) {
            let segments = pack.segments.as_deref().ok_or_else(StepError::early)?.clone();
            let blobs = &view.result(step)?.blobs;
            let none = || StepError::internal("a pack without what its segments are made of");
            packs.push(ComposedPack { segments, compositions: blobs.get(1).copied().ok_or_else(none)? });
        }
    }
    Ok(Composed { single: made, packs })
}

/// Writes what is missing in an output folder.
fn publish(
    context: &StepContext,
    folder: &Path,
    files: &FileList,
    composed: &Composed,
) -> Result<(), Stop> {
    let mut mended = BTreeSet::new();
    loop {
        let mut contents = composed.contents(&context.cache);
        let error = match package::publish(folder, files, &mut contents) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let Some(blob) = contents.blob_at_fault(&error) else { return Err(StepError::Publish(error).into()) };
        // What is right, and yet not what it should be, is made again, too.
        let is_nonsense = matches!(error, PublishError::WrongContent { .. });
        // A damaged blob goes when it is looked at, and may be had from elsewhere; but not for ever.
        if is_nonsense || !context.cache.verify_blob(&blob)? {
            return Err(Stop::Lost(blob));
        }
        if !mended.insert(blob.digest) || context.is_cancelled() {
            return Err(StepError::Publish(error).into());
        }
    }
}
