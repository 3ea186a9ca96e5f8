//! One media segment: a segment type, one movie fragment and its media data. What all samples
//! have in common is written once, as the fragment's defaults.

use mp4_atom::{
    Encode, FourCC, Header, Mfhd, Moof, Sbgp, SbgpEntry, Styp, Tfdt, Tfhd, Traf, Trun, TrunEntry,
};

use super::{CmafError, ROLL, TRACK_ID};

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
    /// In the order of presentation, which is that of decoding: none has a composition offset. Only the last of
    /// an audio track may last less than it decodes to, which trims the end.
    pub samples: &'a [Sample<'a>],
}

/// What ISO-BMFF stores as one: a frame, an audio packet.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub data: &'a [u8],
    /// Ticks.
    pub duration: u32,
    /// Whether decoding can start here: see [`SyncRule`](crate::stream::SyncRule).
    pub sync: bool,
}

/// Sample flags (ISO/IEC 14496-12 8.8.3.1): depends on no other sample.
const SYNC: u32 = 2 << 24;
/// Depends on others, and is no sync sample.
const NON_SYNC: u32 = 1 << 24 | 1 << 16;

/// `styp`, `moof` and `mdat`.
pub fn segment(segment: &Segment<'_>) -> Result<Vec<u8>, CmafError> {
    let media_len: usize = segment.samples.iter().map(|sample| sample.data.len()).sum();
    let mdat = Header { kind: FourCC::new(b"mdat"), size: Some(media_len) };
    let mut mdat_header = Vec::new();
    mdat.encode(&mut mdat_header)?;
    let too_large = |_| CmafError::SegmentSize { bytes: media_len as u64 };
    // Sizes and offsets in a fragment have 32 bits, the offset a signed one.
    i32::try_from(media_len).map_err(too_large)?;

    // The media starts right behind the header of its box; the offset does not change the length.
    let moof_len = encoded(&fragment(segment, 0)?)?.len();
    let data_offset = i32::try_from(moof_len + mdat_header.len()).map_err(too_large)?;

    // msdh: a DASH media segment, cmfs: a CMAF segment (ISO/IEC 23000-19 7.2).
    let mut bytes = encoded(&Styp {
        major_brand: FourCC::new(b"msdh"),
        minor_version: 0,
        compatible_brands: [b"msdh", b"cmfs"].map(FourCC::new).to_vec(),
    })?;
    bytes.reserve(moof_len + mdat_header.len() + media_len);
    fragment(segment, data_offset)?.encode(&mut bytes)?;
    bytes.extend(mdat_header);
    for sample in segment.samples {
        bytes.extend_from_slice(sample.data);
    }
    Ok(bytes)
}

fn fragment(segment: &Segment<'_>, data_offset: i32) -> Result<Moof, CmafError> {
    let samples = segment.samples;
    let (first, others) = samples.split_first().ok_or(CmafError::EmptySegment)?;
    let count =
        u32::try_from(samples.len()).map_err(|_| CmafError::SegmentSize { bytes: samples.len() as u64 })?;
    let size = |sample: &Sample<'_>| {
        u32::try_from(sample.data.len())
            .map_err(|_| CmafError::SegmentSize { bytes: sample.data.len() as u64 })
    };
    let flags = |sample: &Sample<'_>| if sample.sync { SYNC } else { NON_SYNC };

    let same_duration = others.iter().all(|sample| sample.duration == first.duration);
    let same_size = others.iter().all(|sample| sample.data.len() == first.data.len());
    // A segment mostly starts with its only sync sample, for which there is a field of its own.
    let rest = others.first().unwrap_or(first);
    let same_flags = others.iter().all(|sample| sample.sync == rest.sync);
    let entries: Result<Vec<_>, CmafError> = samples
        .iter()
        .enumerate()
        .map(|(n, sample)| {
            let own_flags = !same_flags || (n == 0 && sample.sync != rest.sync);
            Ok(TrunEntry {
                duration: (!same_duration).then_some(sample.duration),
                size: if same_size { None } else { Some(size(sample)?) },
                flags: own_flags.then(|| flags(sample)),
                cts: None,
            })
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
                default_sample_size: if same_size { Some(size(first)?) } else { None },
                default_sample_flags: Some(flags(rest)),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: segment.base_decode_time }),
            trun: vec![Trun { data_offset: Some(data_offset), samples: entries?.into() }],
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
