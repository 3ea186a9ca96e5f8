//! One media segment: a segment type, one movie fragment and its media data, which stays where it lies. What
//! all samples have in common is written once, as the fragment's defaults.

use mp4_atom::{
    Encode, FourCC, Header, Mfhd, Moof, Sbgp, SbgpEntry, Styp, Tfdt, Tfhd, Traf, Trun, TrunEntry,
};

use super::{CmafError, ROLL, TRACK_ID};
use crate::package::composition::{ContentId, Part};

/// A CMAF segment of one track.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Counts the segments of a track, from 1.
    pub sequence_number: u32,
    /// The decode time of the first sample, in ticks since the start of the media: for sound this
    /// counts what the edit list skips.
    pub base_decode_time: u64,
    /// Whether its samples are in the `roll` group of the initialization segment: in tracks that have one.
    pub rolls: bool,
    /// In the order of presentation, which is that of decoding: none has a composition offset. Only the last
    /// of an audio track may last less than it decodes to, which trims the end.
    pub samples: &'a [Sample],
}

/// What ISO-BMFF stores as one: a frame, an audio packet.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Bytes.
    pub size: u32,
    /// Ticks.
    pub duration: u32,
    /// Whether decoding can start here: see [`SyncRule`](crate::stream::SyncRule).
    pub sync: bool,
}

/// Sample flags (ISO/IEC 14496-12 8.8.3.1): depends on no other sample.
const SYNC: u32 = 2 << 24;
/// Depends on others, and is no sync sample.
const NON_SYNC: u32 = 1 << 24 | 1 << 16;

/// The parts of a segment whose samples are those of `payload`, one after another: `styp`, `moof` and the
/// header of `mdat` as bytes, and the payload as it is.
pub fn segment(segment: &Segment<'_>, payload: ContentId) -> Result<Vec<Part>, CmafError> {
    let media_len: u64 = segment.samples.iter().map(|sample| u64::from(sample.size)).sum();
    if media_len != payload.size {
        return Err(CmafError::Payload { samples: media_len, payload: payload.size });
    }
    let too_large = |_| CmafError::SegmentSize { bytes: media_len };
    // Sizes and offsets in a fragment have 32 bits, the offset a signed one.
    let mdat_len = i32::try_from(media_len).map_err(too_large)?;
    let mdat_header = encoded(&Header { kind: FourCC::new(b"mdat"), size: Some(mdat_len as usize) })?;

    // The media starts right behind the header of its box; the offset does not change the length.
    let moof_len = encoded(&fragment(segment, 0)?)?.len();
    let head_len = i32::try_from(moof_len + mdat_header.len()).map_err(too_large)?;
    mdat_len.checked_add(head_len).ok_or(CmafError::SegmentSize { bytes: media_len })?;

    // msdh: a DASH media segment, cmfs: a CMAF segment (ISO/IEC 23000-19 7.2).
    let mut head = encoded(&Styp {
        major_brand: FourCC::new(b"msdh"),
        minor_version: 0,
        compatible_brands: [b"msdh", b"cmfs"].map(FourCC::new).to_vec(),
    })?;
    fragment(segment, head_len)?.encode(&mut head)?;
    head.extend(mdat_header);
    Ok(vec![Part::Inline(head), Part::whole(payload)])
}

fn fragment(segment: &Segment<'_>, data_offset: i32) -> Result<Moof, CmafError> {
    let samples = segment.samples;
    let (first, others) = samples.split_first().ok_or(CmafError::EmptySegment)?;
    let count =
        u32::try_from(samples.len()).map_err(|_| CmafError::SegmentSize { bytes: samples.len() as u64 })?;
    let flags = |sample: &Sample| if sample.sync { SYNC } else { NON_SYNC };

    let same_duration = others.iter().all(|sample| sample.duration == first.duration);
    let same_size = others.iter().all(|sample| sample.size == first.size);
    // A segment mostly starts with its only sync sample, for which there is a field of its own.
    let rest = others.first().unwrap_or(first);
    let same_flags = others.iter().all(|sample| sample.sync == rest.sync);
    let entries: Vec<TrunEntry> = samples
        .iter()
        .enumerate()
        .map(|(n, sample)| {
            let own_flags = !same_flags || (n == 0 && sample.sync != rest.sync);
            TrunEntry {
                duration: (!same_duration).then_some(sample.duration),
                size: (!same_size).then_some(sample.size),
                flags: own_flags.then(|| flags(sample)),
                cts: None,
            }
        })
        .collect();

    let roll = Sbgp {
        grouping_type: ROLL,
        grouping_type_parameter: None,
        // The one description of the initialization segment.
        entries: vec![SbgpEntry { sample_count: count, group_description_index: 1 }],
    };
    Ok(Moof {
        mfhd: Mfhd { sequence_number: segment.sequence_number },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_sample_duration: same_duration.then_some(first.duration),
                default_sample_size: same_size.then_some(first.size),
                default_sample_flags: Some(flags(rest)),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: segment.base_decode_time }),
            trun: vec![Trun { data_offset: Some(data_offset), samples: entries.into() }],
            sbgp: if segment.rolls { vec![roll] } else { Vec::new() },
            ..Traf::default()
        }],
    })
}

fn encoded(atom: &impl Encode) -> Result<Vec<u8>, CmafError> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes)?;
    Ok(bytes)
}
