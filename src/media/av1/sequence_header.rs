//! The fields of a sequence header that all segments of a rung must agree in, and what follows
//! from them: the difference between two headers, and the `codecs` string. Encoder tools, which
//! may differ from one segment to the next, are left out.

use serde::{Deserialize, Serialize};

use super::level::level_name;
use super::obu::{ObuError, ObuType, obus};

/// What the AV1 binding to ISO-BMFF lists as constant within a CMAF track (AV1-in-ISOBMFF 3), and
/// the maximum frame size, on which players rely too. Names are those of AV1 5.5; level, tier and
/// delay are those of the first operating point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceHeader {
    /// 0 Main, 1 High, 2 Professional.
    pub seq_profile: u8,
    pub still_picture: bool,
    /// As in AV1 Annex A.3: 0 is level 2.0, 8 is level 4.0.
    pub seq_level_idx: u8,
    /// False Main, true High.
    pub seq_tier: bool,
    /// Frames that are decoded before the first is shown (`initial_display_delay_minus_1` + 1).
    pub initial_display_delay: Option<u8>,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    pub mono_chrome: bool,
    pub subsampling_x: bool,
    pub subsampling_y: bool,
    /// ITU-T H.273 code points; 2 is "unspecified".
    pub color_primaries: u8,
    pub transfer_characteristics: u8,
    pub matrix_coefficients: u8,
    /// True for full range, false for studio swing.
    pub color_range: bool,
    /// 0 unknown, 1 vertical (left), 2 colocated (top left).
    pub chroma_sample_position: u8,
    /// Luma samples.
    pub max_frame_width: u32,
    pub max_frame_height: u32,
}

/// A sequence header OBU that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceHeaderError {
    #[error(transparent)]
    Obu(#[from] ObuError),
    #[error("a sequence header OBU was expected, but the data holds {found}")]
    NotSequenceHeader { found: &'static str },
    #[error("the sequence header is garbled: {reason}")]
    Garbled { reason: String },
    #[error("the sequence header has the reserved profile {0}")]
    ReservedProfile(u8),
}

/// One field in which two sequence headers differ, for a message to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    pub field: &'static str,
    pub expected: String,
    pub found: String,
}

impl SequenceHeader {
    /// Reads one whole sequence header OBU, header and size field included, as
    /// [`sequence_header_obu`](super::sequence_header_obu) returns it.
    pub fn parse(obu: &[u8]) -> Result<SequenceHeader, SequenceHeaderError> {
        let mut units = obus(obu);
        let first = units.next().ok_or(SequenceHeaderError::NotSequenceHeader { found: "nothing" })??;
        if first.kind != ObuType::SequenceHeader {
            return Err(SequenceHeaderError::NotSequenceHeader { found: "another OBU" });
        }
        if units.next().is_some() {
            return Err(SequenceHeaderError::NotSequenceHeader { found: "more than one OBU" });
        }
        let garbled = |error: std::io::Error| SequenceHeaderError::Garbled { reason: error.to_string() };
        let mut bytes = obu;
        let header = scuffle_av1::ObuHeader::parse(&mut bytes).map_err(garbled)?;
        let mut payload = first.payload;
        let parsed = scuffle_av1::seq::SequenceHeaderObu::parse(header, &mut payload).map_err(garbled)?;
        if parsed.seq_profile > 2 {
            return Err(SequenceHeaderError::ReservedProfile(parsed.seq_profile));
        }
        let missing = |field| SequenceHeaderError::Garbled { reason: format!("no {field}") };
        let point = parsed.operating_points.first().ok_or_else(|| missing("operating point"))?;
        let color = parsed.color_config;
        Ok(SequenceHeader {
            seq_profile: parsed.seq_profile,
            still_picture: parsed.still_picture,
            seq_level_idx: point.seq_level_idx,
            seq_tier: point.seq_tier,
            initial_display_delay: point.initial_display_delay,
            bit_depth: u8::try_from(color.bit_depth).map_err(|_| missing("bit depth"))?,
            mono_chrome: color.mono_chrome,
            subsampling_x: color.subsampling_x,
            subsampling_y: color.subsampling_y,
            color_primaries: color.color_primaries,
            transfer_characteristics: color.transfer_characteristics,
            matrix_coefficients: color.matrix_coefficients,
            color_range: color.full_color_range,
            chroma_sample_position: color.chroma_sample_position,
            max_frame_width: u32::try_from(parsed.max_frame_width).map_err(|_| missing("frame width"))?,
            max_frame_height: u32::try_from(parsed.max_frame_height).map_err(|_| missing("frame height"))?,
        })
    }

    /// Every field in which `found` is not what `self` expects, in the order of the struct.
    pub fn differences(&self, found: &SequenceHeader) -> Vec<FieldDifference> {
        self.fields()
            .into_iter()
            .zip(found.fields())
            .filter(|(expected, found)| expected != found)
            .map(|((field, expected), (_, found))| FieldDifference { field, expected, found })
            .collect()
    }

    /// Every field with its value as a person reads it. The pattern names all of them, so that a
    /// field added to the struct cannot be forgotten here.
    fn fields(&self) -> [(&'static str, String); 16] {
        let SequenceHeader {
            seq_profile,
            still_picture,
            seq_level_idx,
            seq_tier,
            initial_display_delay,
            bit_depth,
            mono_chrome,
            subsampling_x,
            subsampling_y,
            color_primaries,
            transfer_characteristics,
            matrix_coefficients,
            color_range,
            chroma_sample_position,
            max_frame_width,
            max_frame_height,
        } = self;
        let bit = |flag: &bool| u8::from(*flag).to_string();
        let delay = initial_display_delay.map_or("absent".to_owned(), |frames| frames.to_string());
        [
            ("seq_profile", seq_profile.to_string()),
            ("still_picture", bit(still_picture)),
            ("level", level_name(*seq_level_idx)),
            ("tier", if *seq_tier { "High" } else { "Main" }.to_owned()),
            ("initial_display_delay", delay),
            ("bit_depth", bit_depth.to_string()),
            ("mono_chrome", bit(mono_chrome)),
            ("subsampling_x", bit(subsampling_x)),
            ("subsampling_y", bit(subsampling_y)),
            ("color_primaries", color_primaries.to_string()),
            ("transfer_characteristics", transfer_characteristics.to_string()),
            ("matrix_coefficients", matrix_coefficients.to_string()),
            ("color_range", if *color_range { "full" } else { "studio" }.to_owned()),
            ("chroma_sample_position", chroma_sample_position.to_string()),
            ("max_frame_width", max_frame_width.to_string()),
            ("max_frame_height", max_frame_height.to_string()),
        ]
    }

    /// The `codecs` parameter of a track with this header, such as `av01.0.04M.08`
    /// (AV1-in-ISOBMFF 5).
    ///
    /// The optional fields are all there or all left out; left out, they mean 4:2:0 in BT.709 and
    /// studio swing. They follow the `colr` box, which rivet always writes from this header, so
    /// that unspecified colour reads `02.02.02` and not as if it were BT.709.
    pub fn codecs(&self) -> String {
        let mut codecs = format!(
            "av01.{}.{:02}{}.{:02}",
            self.seq_profile,
            self.seq_level_idx,
            if self.seq_tier { 'H' } else { 'M' },
            self.bit_depth
        );
        let position = if self.subsampling_x && self.subsampling_y { self.chroma_sample_position } else { 0 };
        let optional = format!(
            ".{}.{}{}{}.{:02}.{:02}.{:02}.{}",
            u8::from(self.mono_chrome),
            u8::from(self.subsampling_x),
            u8::from(self.subsampling_y),
            position,
            self.color_primaries,
            self.transfer_characteristics,
            self.matrix_coefficients,
            u8::from(self.color_range)
        );
        if optional != ".0.110.01.01.01.0" {
            codecs.push_str(&optional);
        }
        codecs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::av1::{sequence_header_obu, test_stream};

    fn header(encoder: &str, options: &str, pixel_format: &str) -> SequenceHeader {
        let units = test_stream::encode(encoder, options, 1, pixel_format);
        SequenceHeader::parse(sequence_header_obu(&units[0].data).unwrap().unwrap()).unwrap()
    }

    fn sdr() -> SequenceHeader {
        SequenceHeader {
            seq_profile: 0,
            still_picture: false,
            seq_level_idx: 4,
            seq_tier: false,
            initial_display_delay: None,
            bit_depth: 8,
            mono_chrome: false,
            subsampling_x: true,
            subsampling_y: true,
            color_primaries: 1,
            transfer_characteristics: 1,
            matrix_coefficients: 1,
            color_range: false,
            chroma_sample_position: 0,
            max_frame_width: 854,
            max_frame_height: 480,
        }
    }

    #[test]
    fn codecs_follow_the_examples_of_the_binding() {
        assert_eq!(sdr().codecs(), "av01.0.04M.08");
        assert_eq!(SequenceHeader { seq_level_idx: 1, ..sdr() }.codecs(), "av01.0.01M.08");
        let hdr = SequenceHeader {
            bit_depth: 10,
            color_primaries: 9,
            transfer_characteristics: 16,
            matrix_coefficients: 9,
            chroma_sample_position: 2,
            ..sdr()
        };
        assert_eq!(hdr.codecs(), "av01.0.04M.10.0.112.09.16.09.0");
        assert_eq!(
            SequenceHeader { seq_tier: true, seq_level_idx: 13, color_range: true, ..sdr() }.codecs(),
            "av01.0.13H.08.0.110.01.01.01.1"
        );
        // A chroma position means nothing without 4:2:0.
        let yuv444 = SequenceHeader {
            seq_profile: 1,
            subsampling_x: false,
            subsampling_y: false,
            chroma_sample_position: 1,
            ..sdr()
        };
        assert_eq!(yuv444.codecs(), "av01.1.04M.08.0.000.01.01.01.0");
    }

    #[test]
    fn differences_name_each_field() {
        assert_eq!(sdr().differences(&sdr()), []);
        let other = SequenceHeader {
            seq_level_idx: 8,
            seq_tier: true,
            initial_display_delay: Some(3),
            max_frame_width: 856,
            ..sdr()
        };
        let found: Vec<_> = sdr()
            .differences(&other)
            .into_iter()
            .map(|d| format!("{}: {} {}", d.field, d.expected, d.found))
            .collect();
        assert_eq!(
            found,
            [
                "level: 3.0 4.0",
                "tier: Main High",
                "initial_display_delay: absent 3",
                "max_frame_width: 854 856"
            ]
        );
    }

    #[test]
    fn headers_of_other_encoders_are_read() {
        for encoder in test_stream::ENCODERS {
            let plain = header(encoder, "", "yuv420p");
            assert_eq!((plain.max_frame_width, plain.max_frame_height), (320, 180), "{encoder}");
            assert_eq!((plain.seq_profile, plain.bit_depth), (0, 8), "{encoder}");
            assert!(plain.subsampling_x && plain.subsampling_y && !plain.mono_chrome);
            let hdr = header(
                encoder,
                "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
                "yuv420p10le",
            );
            assert_eq!(hdr.bit_depth, 10, "{encoder}");
            let color = (hdr.color_primaries, hdr.transfer_characteristics, hdr.matrix_coefficients);
            assert_eq!(color, (9, 16, 9), "{encoder}");
        }
        let yuv444 = header("libaom-av1", "", "yuv444p");
        assert_eq!((yuv444.seq_profile, yuv444.subsampling_x, yuv444.subsampling_y), (1, false, false));
        let gray = header("libaom-av1", "", "gray");
        assert!(gray.mono_chrome);
    }

    #[test]
    fn only_a_sequence_header_is_accepted() {
        let unit = &test_stream::encode("libsvtav1", "", 1, "yuv420p")[0].data;
        let obu = sequence_header_obu(unit).unwrap().unwrap();
        assert!(SequenceHeader::parse(obu).is_ok());
        for cut in 0..obu.len() {
            assert!(SequenceHeader::parse(&obu[..cut]).is_err(), "cut to {cut}");
        }
        assert!(SequenceHeader::parse(unit).is_err());
        assert!(SequenceHeader::parse(&[obu, obu].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut obu = vec![0x0a, payload.len() as u8];
            obu.extend(payload);
            if let Ok(header) = SequenceHeader::parse(&obu) {
                prop_assert!(header.codecs().starts_with("av01."));
                prop_assert_eq!(header.differences(&header), []);
            }
        }
    }
}
