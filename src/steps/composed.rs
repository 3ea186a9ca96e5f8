//! Files of a stream as they are stored: not their bytes, but what they are put together of. The list stands
//! in the entry of the step that made it, and the blobs that it takes bytes of are the entry's blobs, so that
//! cleaning, pushing and pulling reach them.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::cache::{BlobRef, Cache, EntryResult, Tiers};
use crate::package::{
    Blobs, ComposeError, Composition, ContentId, Contents, Part, PublishError, PublishFile,
};

use super::context::{StepContext, encoded, facts};
use super::error::{StepError, Stop};

/// Texts that are longer, playlists of hours, lie in a blob of their own: entries are read as a whole.
const MAX_INLINE: usize = 16 << 10;

pub(crate) fn content_of(blob: &BlobRef) -> ContentId {
    ContentId { digest: blob.digest.into(), size: blob.size }
}

pub(crate) fn blob_of(content: &ContentId) -> BlobRef {
    BlobRef { digest: content.digest.into(), size: content.size }
}

/// What a step's result is that came to a file.
pub(crate) fn composed(file: &Composition) -> Result<EntryResult, StepError> {
    Ok(EntryResult { facts: encoded(file)?, blobs: file.blobs().map(|blob| blob_of(&blob)).collect() })
}

/// The file that a step came to.
pub(crate) fn composition(result: &EntryResult) -> Result<Composition, StepError> {
    facts(result)
}

/// Whether a result is a file that can be put together of its blobs.
pub(crate) fn is_composed(result: &EntryResult) -> bool {
    let is_of_them =
        |file: &Composition| file.blobs().map(|blob| blob_of(&blob)).eq(result.blobs.iter().copied());
    composition(result).is_ok_and(|file| file.is_sound() && is_of_them(&file))
}

/// Stores bytes that are made without reading anything.
pub(crate) fn store_text(context: &StepContext, bytes: Vec<u8>) -> Result<EntryResult, StepError> {
    let file = if bytes.len() <= MAX_INLINE {
        Composition::inline(bytes)
    } else {
        let text = content_of(&context.cache.put_blob(&bytes)?);
        Composition { content: text, parts: vec![Part::whole(text)] }
    };
    composed(&file)
}

/// A file that cannot be put together: the step runs again that made the blob that is lacking.
pub(crate) fn not_composed(error: ComposeError) -> Stop {
    match error.blob() {
        Some(blob) => Stop::Lost(blob_of(&blob)),
        None => StepError::internal(error).into(),
    }
}

/// Opens a blob of a cache. One that is damaged is not there.
fn open_blob(cache: &Tiers, blob: &ContentId) -> io::Result<Option<Box<dyn Read>>> {
    let reader = cache.open_blob(&blob_of(blob)).map_err(io::Error::other)?;
    Ok(reader.map(|reader| Box::new(reader) as Box<dyn Read>))
}

/// Blobs of a cache.
pub(crate) struct CacheBlobs<'a>(pub &'a Tiers);

impl Blobs for CacheBlobs<'_> {
    fn open(&mut self, blob: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        open_blob(self.0, blob)
    }
}

/// What all files of a title are made of: those with a step of their own by path, segments by their packs.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Composed {
    pub single: BTreeMap<String, EntryResult>,
    pub packs: Vec<ComposedPack>,
}

/// The segments of a pack.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ComposedPack {
    pub segments: Vec<ContentId>,
    /// The blob that says what each is made of. It is read only where one of them is to be written.
    pub compositions: BlobRef,
}

/// The compositions of a pack's segments.
pub(crate) fn compositions(cache: &dyn Cache, blob: &BlobRef) -> Result<Vec<Composition>, StepError> {
    let bytes = cache.blob(blob)?.ok_or(StepError::Lost(*blob))?;
    postcard::from_bytes(&bytes).map_err(|_| StepError::Lost(*blob))
}

impl Composed {
    /// For one publish.
    pub fn contents<'a>(&'a self, cache: &'a Tiers) -> Reading<'a> {
        Reading { cache, composed: self, pack: 0, read: None, lost: None }
    }
}

/// Reads compositions as files are asked for, a pack at a time.
pub(crate) struct Reading<'a> {
    cache: &'a Tiers,
    composed: &'a Composed,
    /// The pack that was asked for last, and, once it is read, its number with what its segments are made of.
    pack: usize,
    read: Option<(usize, Vec<Composition>)>,
    /// Compositions that cannot be had.
    lost: Option<BlobRef>,
}

impl Reading<'_> {
    /// The blob that has to be made again because of an error.
    pub fn blob_at_fault(&mut self, error: &PublishError) -> Option<BlobRef> {
        match error {
            PublishError::Part { source, .. } => source.blob().map(|blob| blob_of(&blob)),
            PublishError::Content { .. } => self.lost,
            // Blobs are right and yet come to another file: it is not made of what its pack says.
            PublishError::WrongContent { expected, .. } => {
                let (pack, _) = self.find(expected)?;
                self.composed.packs.get(pack).map(|pack| pack.compositions)
            }
            _ => None,
        }
    }

    /// The pack that a segment is on, and where. Files come in order of path, so it is mostly the last one or
    /// the next.
    fn find(&mut self, file: &ContentId) -> Option<(usize, usize)> {
        let count = self.composed.packs.len();
        for pack in (self.pack..count).chain(0..self.pack) {
            let segments = &self.composed.packs.get(pack)?.segments;
            if let Some(place) = segments.iter().position(|segment| segment == file) {
                self.pack = pack;
                return Some((pack, place));
            }
        }
        None
    }

    fn look(&mut self, file: &PublishFile) -> Result<Composition, StepError> {
        if let Some(result) = self.composed.single.get(file.path.as_str()) {
            return composition(result);
        }
        let none = || StepError::internal("a file that no step made");
        let content = ContentId { digest: file.digest, size: file.size };
        let (pack, place) = self.find(&content).ok_or_else(none)?;
        if self.read.as_ref().is_none_or(|(read, _)| *read != pack) {
            let blob = &self.composed.packs.get(pack).ok_or_else(none)?.compositions;
            self.read = Some((pack, compositions(self.cache, blob)?));
        }
        let blob = self.composed.packs.get(pack).ok_or_else(none)?.compositions;
        let read = self.read.as_ref().and_then(|(_, read)| read.get(place)).cloned();
        read.ok_or(StepError::Lost(blob))
    }
}

impl Contents for Reading<'_> {
    /// Has a remote asked for all that files are made of: one by one, each blob would cost a round trip.
    fn announce(&mut self, files: &[&PublishFile]) -> io::Result<()> {
        if !self.cache.has_remote() {
            return Ok(());
        }
        let mut wanted = Vec::with_capacity(files.len());
        for file in files {
            wanted.extend(self.composition(file)?.blobs().map(|blob| blob_of(&blob)));
        }
        self.cache.fetch(&wanted).map_err(io::Error::other)
    }

    fn composition(&mut self, file: &PublishFile) -> io::Result<Composition> {
        self.look(file).map_err(|error| {
            if let StepError::Lost(blob) = error {
                self.lost = Some(blob);
            }
            io::Error::other(error)
        })
    }
}

impl Blobs for Reading<'_> {
    fn open(&mut self, blob: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        open_blob(self.cache, blob)
    }
}
