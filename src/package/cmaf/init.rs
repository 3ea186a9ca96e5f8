//! The initialization segment that all tracks share the shape of: file type, then a movie box
//! with one track and no samples.
//!
//! ISO/IEC 14496-12 6.3.4 strongly recommends an order of boxes (edit list before media, media
//! header before sample table, sample group descriptions before their use, track before movie
//! extends) that players which parse in one pass count on. `mp4-atom` keeps another when it
//! writes a container as a whole, so containers are put together here, of its boxes.

use mp4_atom::{
    Any, Codec, Dref, Edts, Elst, Encode, FourCC, Ftyp, Hdlr, Header, Mdhd, Mvhd, Sbgp, Sgpd, Stco, Stsc,
    Stsd, Stsz, Stts, Tkhd, Trex, Url,
};

use super::{CmafError, TRACK_ID};
use crate::package::language::Language;

/// What tracks differ in.
pub(super) struct Track<'a, H> {
    /// The brand of the codec's binding to ISO-BMFF.
    pub brand: &'static [u8; 4],
    pub timescale: u32,
    pub language: Option<&'a Language>,
    /// Volume and size are set in it; the rest is the same for all.
    pub tkhd: Tkhd,
    pub edits: Option<Elst>,
    pub handler: &'static [u8; 4],
    pub handler_name: &'static str,
    /// `vmhd` or `smhd`.
    pub media_header: H,
    pub sample_entry: Codec,
    /// A sample group that fragments refer to. Its empty `sbgp` is written beside it.
    pub sample_group: Option<Sgpd>,
}

pub(super) fn init_segment<H: Encode>(track: Track<'_, H>) -> Result<Vec<u8>, CmafError> {
    if track.timescale == 0 {
        return Err(CmafError::ZeroTimescale);
    }
    let mut file = Boxes(Vec::new());
    // iso6 stands for the structure, with version 1 `tfdt` and default-base-is-moof; cmfc for
    // CMAF (ISO/IEC 23000-19 7.2).
    file.add(&Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", track.brand].map(FourCC::new).to_vec(),
    })?;
    file.nest(b"moov", |moov| {
        moov.add(&Mvhd {
            timescale: track.timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        })?;
        moov.nest(b"trak", |trak| write_track(trak, track))?;
        moov.nest(b"mvex", |mvex| {
            mvex.add(&Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() })
        })
    })?;
    Ok(file.0)
}

fn write_track<H: Encode>(trak: &mut Boxes, track: Track<'_, H>) -> Result<(), CmafError> {
    trak.add(&Tkhd { track_id: TRACK_ID, enabled: true, in_movie: true, ..track.tkhd })?;
    if let Some(edits) = track.edits {
        trak.add(&Edts { elst: Some(edits) })?;
    }
    trak.nest(b"mdia", |mdia| {
        let code = track.language.map_or("und", Language::iso_639_2);
        mdia.add(&Mdhd { timescale: track.timescale, language: code.to_owned(), ..Mdhd::default() })?;
        if let Some(tag) = track.language.map(Language::as_str)
            && (tag.contains('-') || code == "und")
        {
            // The whole tag, where three letters say less (ISO/IEC 14496-12 8.4.6).
            let body = [&[0; 4], tag.as_bytes(), &[0]].concat();
            mdia.add(&Any::Unknown(FourCC::new(b"elng"), body))?;
        }
        mdia.add(&Hdlr { handler: FourCC::new(track.handler), name: track.handler_name.to_owned() })?;
        mdia.nest(b"minf", |minf| {
            minf.add(&track.media_header)?;
            minf.nest(b"dinf", |dinf| dinf.add(&Dref { entries: vec![Url::default().into()] }))?;
            minf.nest(b"stbl", |stbl| {
                stbl.add(&Stsd { codecs: vec![track.sample_entry] })?;
                stbl.add(&Stts::default())?;
                stbl.add(&Stsc::default())?;
                stbl.add(&Stsz::default())?;
                stbl.add(&Stco::default())?;
                if let Some(group) = track.sample_group {
                    let grouping_type = group.grouping_type;
                    stbl.add(&group)?;
                    stbl.add(&Sbgp { grouping_type, grouping_type_parameter: None, entries: Vec::new() })?;
                }
                Ok(())
            })
        })
    })
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
