//! The initialization segment that all tracks share the shape of: file type, then a movie box
//! with one track and no samples.
//!
//! ISO/IEC 14496-12 6.3.4 strongly recommends an order of boxes (edit list before media, media
//! header before sample table, sample group descriptions before their use, track before movie
//! extends) that players which parse in one pass count on. `mp4-atom` keeps another when it
//! writes a container as a whole, so containers are put together here, of its boxes.

use mp4_atom::{
    Any, AnySampleGroupEntry, Dref, Edts, Elst, ElstEntry, Encode, FourCC, Ftyp, Hdlr, Header, Mdhd, Mvhd,
    Sbgp, Sgpd, SgpdEntry, Smhd, Stco, Stsc, Stsd, Stsz, Stts, Tkhd, Trex, Url, Vmhd,
};

use super::{CmafError, ROLL, TRACK_ID};
use crate::stream::{Language, Medium, StreamError, Track};

/// `ftyp` and `moov` of a track. `config` is what its sample entry takes of the encodes, see
/// [`Track::sample_entry`]. `early` counts the ticks of media, besides the pre-skip, that lie before the
/// presentation starts.
///
/// Where anything lies before, an edit list starts the presentation behind it; with a duration of 0 it lasts
/// as long as the samples do (ISO/IEC 14496-12 8.6.6).
pub fn init_segment(track: &Track, config: &[u8], early: u64) -> Result<Vec<u8>, CmafError> {
    if track.timescale == 0 {
        return Err(CmafError::ZeroTimescale);
    }
    let mut file = Boxes(Vec::new());
    // iso6 stands for the structure, with version 1 `tfdt` and default-base-is-moof; cmfc for
    // CMAF (ISO/IEC 23000-19 7.2).
    file.add(&Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", &track.brand].map(FourCC::new).to_vec(),
    })?;
    file.nest(b"moov", |moov| {
        moov.add(&Mvhd {
            timescale: track.timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        })?;
        moov.nest(b"trak", |trak| write_track(trak, track, config, early))?;
        moov.nest(b"mvex", |mvex| {
            mvex.add(&Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() })
        })
    })?;
    Ok(file.0)
}

fn write_track(trak: &mut Boxes, track: &Track, config: &[u8], early: u64) -> Result<(), CmafError> {
    let own = match track.medium {
        Medium::Video { width, height, .. } => {
            let too_large = |_| StreamError::FrameSize { width, height };
            let (width, height) =
                (u16::try_from(width).map_err(too_large)?, u16::try_from(height).map_err(too_large)?);
            Tkhd { width: width.into(), height: height.into(), ..Tkhd::default() }
        }
        Medium::Audio { .. } => Tkhd { volume: 1.into(), ..Tkhd::default() },
    };
    trak.add(&Tkhd { track_id: TRACK_ID, enabled: true, in_movie: true, ..own })?;
    let media_time = u64::from(track.pre_skip) + early;
    if media_time > 0 {
        let edit = ElstEntry { segment_duration: 0, media_time: Some(media_time), media_rate: 1.into() };
        trak.add(&Edts { elst: Some(Elst { entries: vec![edit] }) })?;
    }
    let sample_entry = track.sample_entry(config)?;
    trak.nest(b"mdia", |mdia| {
        let code = track.language.as_ref().map_or("und", Language::iso_639_2);
        mdia.add(&Mdhd { timescale: track.timescale, language: code.to_owned(), ..Mdhd::default() })?;
        if let Some(tag) = track.language.as_ref().map(Language::as_str)
            && (tag.contains('-') || code == "und")
        {
            // The whole tag, where three letters say less (ISO/IEC 14496-12 8.4.6).
            let body = [&[0; 4], tag.as_bytes(), &[0]].concat();
            mdia.add(&Any::Unknown(FourCC::new(b"elng"), body))?;
        }
        let (handler, name) = match track.medium {
            Medium::Video { .. } => (b"vide", "Video"),
            Medium::Audio { .. } => (b"soun", "Audio"),
        };
        mdia.add(&Hdlr { handler: FourCC::new(handler), name: name.to_owned() })?;
        mdia.nest(b"minf", |minf| {
            match track.medium {
                Medium::Video { .. } => minf.add(&Vmhd::default())?,
                Medium::Audio { .. } => minf.add(&Smhd::default())?,
            }
            minf.nest(b"dinf", |dinf| dinf.add(&Dref { entries: vec![Url::default().into()] }))?;
            minf.nest(b"stbl", |stbl| {
                stbl.add(&Stsd { codecs: vec![sample_entry] })?;
                stbl.add(&Stts::default())?;
                stbl.add(&Stsc::default())?;
                stbl.add(&Stsz::default())?;
                stbl.add(&Stco::default())?;
                if let Some(distance) = track.roll {
                    // Fragments refer to it; its empty `sbgp` is written beside it.
                    stbl.add(&roll_group(distance))?;
                    stbl.add(&Sbgp {
                        grouping_type: ROLL,
                        grouping_type_parameter: None,
                        entries: Vec::new(),
                    })?;
                }
                Ok(())
            })
        })
    })
}

/// The one description of the `roll` sample group: `distance` in samples.
fn roll_group(distance: i16) -> Sgpd {
    Sgpd {
        grouping_type: ROLL,
        default_length: Some(2),
        default_group_description_index: None,
        static_group_description: false,
        static_mapping: false,
        essential: false,
        entries: vec![SgpdEntry {
            description_length: Some(2),
            entry: AnySampleGroupEntry::UnknownGroupingType(ROLL, distance.to_be_bytes().to_vec()),
        }],
    }
}

/// Boxes one after another.
struct Boxes(Vec<u8>);

impl Boxes {
    fn add(&mut self, atom: &impl Encode) -> Result<(), CmafError> {
        Ok(atom.encode(&mut self.0)?)
    }

    /// A box of `kind` that holds what `fill` adds.
    fn nest(
        &mut self,
        kind: &[u8; 4],
        fill: impl FnOnce(&mut Boxes) -> Result<(), CmafError>,
    ) -> Result<(), CmafError> {
        let mut children = Boxes(Vec::new());
        fill(&mut children)?;
        self.add(&Header { kind: FourCC::new(kind), size: Some(children.0.len()) })?;
        self.0.extend(children.0);
        Ok(())
    }
}
