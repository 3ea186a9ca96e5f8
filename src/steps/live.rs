//! What of a title is at work in this process while it is decoded: open readers, the chunker that runs
//! beside decoding, the decoder that decodes chunks again. None of it decides what is made.

use std::sync::{Arc, Mutex, PoisonError};

use crate::package::FileList;
use crate::title::Title;
use crate::title::assemble::{DecodedSpan, Timing};
use crate::title::ids::PackId;
use crate::title::streaming::StreamingChunker;

use super::context::{Readers, StepContext};
use super::frames::{FrameSource, MAX_THREADS, RetainedFrame};

#[derive(Default)]
pub(crate) struct Live {
    pub readers: Option<Arc<Readers>>,
    /// While the title is chunked beside decoding.
    pub chunker: Option<Box<StreamingChunker<RetainedFrame>>>,
    /// Whether it can be chunked only when all of it has been decoded.
    pub is_chunked_last: bool,
    /// The pack of spans that was read last, while the title is chunked.
    pub span_pack: Option<(PackId, Vec<DecodedSpan>)>,
    pub frames: Option<Arc<FrameSource>>,
    /// What is to be published, as of the last look at the output folder.
    files: Mutex<Option<Arc<FileList>>>,
}

impl Live {
    /// Drops frames that are retained and in no chunk yet; they will be decoded again. False where there
    /// were none.
    pub fn drop_frames(&mut self) -> bool {
        self.chunker.as_mut().is_some_and(|chunker| chunker.drop_frames())
    }

    /// Frames can be had from now on; `threads` decode at a time.
    pub fn begin_frames(&mut self, title: &Title, timing: &Timing, context: &StepContext, threads: usize) {
        let Some(video) = title.video() else { return };
        let codecs = (Arc::clone(&context.codecs), Arc::clone(&context.decoded));
        let track = Arc::new(video.clone());
        let frames =
            FrameSource::new(&title.source, track, codecs, &timing.span_frames, threads.min(MAX_THREADS));
        self.frames = Some(Arc::new(frames));
    }

    pub fn files(&self) -> Option<Arc<FileList>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_files(&self, files: Arc<FileList>) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
    }

    /// All is decoded: with many titles open files would run out.
    pub fn close_readers(&mut self) {
        self.readers = None;
        self.span_pack = None;
        self.chunker = None;
    }
}
