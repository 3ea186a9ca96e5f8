//! Collects an encoder's packets into a chunk. All checks of what an encoder returns are here: one packet a
//! frame, in order, one key frame, and a sequence header that keeps the contract.

use super::{EncodeJob, EncodedChunk, Failure};
use crate::media::av1::{self, sequence_header_obu, to_sample};

/// A chunk that is being encoded.
pub struct Collector<'a> {
    job: &'a EncodeJob<'a>,
    encoder: &'static str,
    /// Whether the encoder chooses the level itself, and may not signal colours: level and colours of the
    /// contract are then written to its header, where that is valid.
    sets_own_level: bool,
    chunk: EncodedChunk,
}

impl<'a> Collector<'a> {
    pub fn new(job: &'a EncodeJob<'a>, encoder: &'static str, sets_own_level: bool) -> Collector<'a> {
        let units = Vec::with_capacity(job.count());
        let chunk = EncodedChunk { sequence_header: Vec::new(), units };
        Collector { job, encoder, sets_own_level, chunk }
    }

    /// Adds the next temporal unit, that of frame `number`, counted from 0. The first one's sequence header
    /// must keep the contract, and it alone is a key frame.
    pub fn take(&mut self, unit: &[u8], number: u64, is_key: bool) -> Result<(), Failure> {
        let encoder = self.encoder;
        let garbled = |error: &dyn std::fmt::Display| {
            Failure::machine(format!("{encoder} made an unreadable packet: {error}"))
        };
        let place = self.chunk.units.len();
        if number != place as u64 {
            return Err(Failure::machine(format!("{encoder} returned frame {number} in place {place}")));
        }
        if place > 0 && is_key {
            return Err(Failure::machine(format!(
                "{encoder} put a key frame at frame {number} of a closed sequence"
            )));
        }
        let header = sequence_header_obu(unit).map_err(|error| garbled(&error))?;
        if place == 0 && header.is_some() && !is_key {
            return Err(Failure::machine(format!("{encoder}'s first frame is no key frame")));
        }
        let contract = &self.job.task.contract;
        let sample = match header {
            None if place == 0 => {
                return Err(Failure::machine(format!("{encoder}'s first packet has no sequence header")));
            }
            None => to_sample(unit).map_err(|error| garbled(&error))?,
            Some(header) => {
                let header = match self.sets_own_level {
                    true => av1::with_agreed(header, contract.header()).map_err(|error| garbled(&error))?,
                    false => header.to_vec(),
                };
                contract.check(&header).map_err(|error| Failure::contract(encoder, &error))?;
                let mut unit = av1::with_header(unit, &header).map_err(|error| garbled(&error))?;
                let hdr = &self.job.task.settings.hdr;
                if place == 0 && !hdr.is_empty() {
                    unit = av1::with_hdr(&unit, hdr).map_err(|error| garbled(&error))?;
                }
                if place == 0 {
                    self.chunk.sequence_header = header;
                }
                to_sample(&unit).map_err(|error| garbled(&error))?
            }
        };
        self.chunk.units.push(sample);
        Ok(())
    }

    /// The chunk, if a packet has come for every frame.
    pub fn finish(self) -> Result<EncodedChunk, Failure> {
        let (made, count) = (self.chunk.units.len(), self.job.count());
        if made != count {
            return Err(Failure::machine(format!("{} made {made} packets of {count} frames", self.encoder)));
        }
        Ok(self.chunk)
    }
}
