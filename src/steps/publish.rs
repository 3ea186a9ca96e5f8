//! The output folder: holds exactly the title's files. What it writes lies outside the cache.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cache::{ActionResult, BlobRef, Cache};
use crate::package::{self, Content, FileList, PublishError, PublishFile, Role, is_current};
use crate::spec::PackageFormat;
use crate::title::Title;
use crate::title::part::Part;

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
    files: Vec<(String, BlobRef, Role)>,
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
            inputs.push(MuxInit { track }.into());
        }
        if title.has_format(PackageFormat::Hls) {
            inputs.extend(title.track_ids().map(|track| Step::from(WritePlaylist { track })));
            inputs.push(WriteMultivariant.into());
        }
        inputs
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
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
        let files = files(view)?;
        let current = view.outside.unpublished || is_current(&view.title.output, files.digest());
        view.live.set_files(Arc::new(files));
        Ok(if current { LookUp::Current(ActionResult::default(), ()) } else { LookUp::Stale })
    }

    fn accept(self, _: &View<'_>, _: &ActionResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Err(StepError::internal("an output folder in the cache"))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let files = view.live.files().ok_or_else(StepError::early)?;
        let listed = files.files().iter().map(|file| (file.path.to_string(), blob_of(file), file.role));
        Ok(Work { folder: view.title.output.clone(), files: listed.collect() })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { folder, files } = work;
        let files = files.into_iter().map(|(name, blob, role)| file(name, blob, role));
        let files = FileList::new(files.collect::<Result<_, _>>()?).map_err(StepError::Publish)?;
        publish(context, &folder, &files)?;
        Ok(Output::new(ActionResult::default(), ()))
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

fn file(name: String, blob: BlobRef, role: Role) -> Result<PublishFile, StepError> {
    Ok(PublishFile { path: path(name)?, size: blob.size, digest: blob.digest.into(), role })
}

fn blob_of(file: &PublishFile) -> BlobRef {
    BlobRef { digest: file.digest.into(), size: file.size }
}

/// Every file of the output folder.
fn files(view: &View<'_>) -> Result<FileList, StepError> {
    let title = view.title;
    let hls = title.has_format(PackageFormat::Hls);
    let mut tracks = Vec::new();
    for id in title.track_ids() {
        let init = view.blob(MuxInit { track: id })?;
        let playlist = hls.then(|| view.blob(WritePlaylist { track: id })).transpose()?;
        tracks.push((&view.track(id)?.name, init, Segments::of(title, id)?.blobs, playlist));
    }
    let of_track = |(folder, init, segments, playlist): (&String, BlobRef, Vec<BlobRef>, Option<BlobRef>)| {
        let init = [(format!("{folder}/{}", init_name(&init)), init, Role::Media)];
        let segments = segments.into_iter().enumerate().map(|(number, segment)| {
            (format!("{folder}/{}", segment_name(number + 1, &segment)), segment, Role::Media)
        });
        let playlist = playlist.map(|playlist| (format!("{folder}/{PLAYLIST}"), playlist, Role::Playlist));
        let all = init.into_iter().chain(segments).chain(playlist);
        all.map(|(name, blob, role)| file(name, blob, role)).collect()
    };
    let by_track: Vec<Vec<PublishFile>> =
        tracks.into_par_iter().map(of_track).collect::<Result<_, StepError>>()?;
    let mut files = Vec::with_capacity(by_track.iter().map(Vec::len).sum::<usize>() + 1);
    by_track.into_iter().for_each(|of_track| files.extend(of_track));
    if hls {
        files.push(file(ENTRY.to_owned(), view.blob(WriteMultivariant)?, Role::Entry)?);
    }
    FileList::new(files).map_err(StepError::Publish)
}

fn publish(context: &StepContext, folder: &Path, files: &FileList) -> Result<(), Stop> {
    let content = |file: &PublishFile| {
        let blob = blob_of(file);
        // It is read there, and held against its digest.
        let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_file());
        if let Some(path) = context.cache.blob_file(&blob).filter(is_file) {
            return Ok(Content::File { path, may_link: context.hard_links });
        }
        match context.cache.blob(&blob).map_err(io::Error::other)? {
            Some(bytes) => Ok(Content::Stream(Box::new(io::Cursor::new(bytes)))),
            None => Err(io::Error::other("its content is no longer in the cache")),
        }
    };
    if context.cache.has_remote() {
        // What is likely to be written, all at once: one by one, each would cost a round trip.
        let is_there = |file: &PublishFile| {
            file.path.under(folder).symlink_metadata().is_ok_and(|found| found.len() == file.size)
        };
        let absent = files.files().par_iter().filter(|file| !is_there(file)).map(blob_of);
        context.cache.fetch(&absent.collect::<Vec<BlobRef>>())?;
    }
    let mut mended = BTreeSet::new();
    loop {
        let error = match package::publish(folder, files, &content) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let file = match &error {
            PublishError::WrongContent { path, .. } | PublishError::Content { path, .. } => {
                files.files().iter().find(|file| file.path == *path)
            }
            _ => None,
        };
        let Some(file) = file else { return Err(StepError::Publish(error).into()) };
        // A damaged blob goes when it is looked at, and may be had from elsewhere; but not for ever.
        if context.cache.blob(&blob_of(file))?.is_none() {
            return Err(Stop::Lost(blob_of(file)));
        }
        if !mended.insert(file.path.clone()) || context.is_cancelled() {
            return Err(StepError::Publish(error).into());
        }
    }
}
