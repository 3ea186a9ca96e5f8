//! What stands for decoding on NVIDIA's GPUs in a build without it: there are none.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::software::Source;
use super::{Frame, FrameMemory, GpuDecoder, GpuTrouble, MediaError};

#[derive(Clone)]
pub enum Device {}

pub(super) enum GpuSpan {}

pub(super) fn find(_: Option<&str>) -> (Vec<GpuDecoder>, Vec<MediaError>) {
    (Vec::new(), Vec::new())
}

impl GpuSpan {
    pub fn start(
        gpu: &GpuDecoder,
        _: &Source,
        _: BTreeSet<u32>,
        _: Option<Arc<dyn FrameMemory>>,
    ) -> Result<GpuSpan, GpuTrouble> {
        match gpu.device {}
    }

    pub fn next(&mut self) -> Result<Option<Frame>, GpuTrouble> {
        match *self {}
    }
}
