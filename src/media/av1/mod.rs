//! What a packager must know of an AV1 stream, and no more: its open bitstream units, its
//! sequence header, and the level that a picture size and rate ask for. Nothing here decodes.
//!
//! An encoder's temporal unit is taken apart by [`obus`]; [`to_sample`] makes of it the sample
//! that ISO-BMFF stores, [`is_random_access_point`] says whether that sample may be marked sync.
//! [`sequence_header_obu`] finds the header that goes into `av1C`, and [`SequenceHeader`] holds
//! what of it may not change within a track. [`level_for`] gives the level before anything is
//! encoded, [`with_agreed`] writes it, and what colours mean, into the header of an encoder that cannot
//! be told; [`with_hdr`] adds what a display needs to know.

mod agreed;
mod header_bits;
mod level;
mod metadata;
mod obu;
mod sequence_header;

pub use agreed::{with_agreed, with_header};
pub use level::{LEVELS, Level, level_for, level_name};
pub use metadata::with_hdr;
pub use obu::{Obu, ObuError, ObuType, Obus, is_random_access_point, obus, sequence_header_obu, to_sample};
pub use sequence_header::{FieldDifference, SequenceHeader, SequenceHeaderError};

#[cfg(test)]
pub(crate) mod test_stream;
