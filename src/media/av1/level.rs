//! The level table of the AV1 specification, and the level that a picture size, rate and bit rate
//! ask for. It decides a rung's level before anything is encoded, so it may look at no encoder's
//! output.

use crate::media::Rational;

/// One row of the tables in AV1 Annex A.3, with the limits of the Main tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// `seq_level_idx`.
    pub idx: u8,
    /// As people write it: "3.1".
    pub name: &'static str,
    /// Luma samples of one picture.
    pub max_pic_size: u64,
    /// Luma samples across and down.
    pub max_h_size: u32,
    pub max_v_size: u32,
    /// Luma samples a second, shown and decoded.
    pub max_display_rate: u64,
    pub max_decode_rate: u64,
    /// Frame headers a second, not counting those that only show a frame decoded before.
    pub max_header_rate: u64,
    /// Bits a second in the Main tier and profile 0 (`MainMbps` times 1,000,000).
    pub max_bitrate: u64,
    /// Tiles of one picture, and columns of them.
    pub max_tiles: u32,
    pub max_tile_cols: u32,
}

/// The defined levels, smallest first (AV1 Annex A.3). The index has gaps where the specification
/// leaves a level undefined.
#[rustfmt::skip]
pub const LEVELS: [Level; 14] = [
    //     idx name       pic size  across   down   display rate    decode rate headers  bits a second tiles
    // cols
    level( 0, "2.0",       147_456,  2_048, 1_152,     4_423_680,     5_529_600, 150,   1_500_000,   8,  4),
    level( 1, "2.1",       278_784,  2_816, 1_584,     8_363_520,    10_454_400, 150,   3_000_000,   8,  4),
    level( 4, "3.0",       665_856,  4_352, 2_448,    19_975_680,    24_969_600, 150,   6_000_000,  16,  6),
    level( 5, "3.1",     1_065_024,  5_504, 3_096,    31_950_720,    39_938_400, 150,  10_000_000,  16,  6),
    level( 8, "4.0",     2_359_296,  6_144, 3_456,    70_778_880,    77_856_768, 300,  12_000_000,  32,  8),
    level( 9, "4.1",     2_359_296,  6_144, 3_456,   141_557_760,   155_713_536, 300,  20_000_000,  32,  8),
    level(12, "5.0",     8_912_896,  8_192, 4_352,   267_386_880,   273_715_200, 300,  30_000_000,  64,  8),
    level(13, "5.1",     8_912_896,  8_192, 4_352,   534_773_760,   547_430_400, 300,  40_000_000,  64,  8),
    level(14, "5.2",     8_912_896,  8_192, 4_352, 1_069_547_520, 1_094_860_800, 300,  60_000_000,  64,  8),
    level(15, "5.3",     8_912_896,  8_192, 4_352, 1_069_547_520, 1_176_502_272, 300,  60_000_000,  64,  8),
    level(16, "6.0",    35_651_584, 16_384, 8_704, 1_069_547_520, 1_176_502_272, 300,  60_000_000, 128, 16),
    level(17, "6.1",    35_651_584, 16_384, 8_704, 2_139_095_040, 2_189_721_600, 300, 100_000_000, 128, 16),
    level(18, "6.2",    35_651_584, 16_384, 8_704, 4_278_190_080, 4_379_443_200, 300, 160_000_000, 128, 16),
    level(19, "6.3",    35_651_584, 16_384, 8_704, 4_278_190_080, 4_706_009_088, 300, 160_000_000, 128, 16),
];

#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "a row of the specification's table")]
const fn level(
    idx: u8, name: &'static str, max_pic_size: u64, max_h_size: u32, max_v_size: u32,
    max_display_rate: u64, max_decode_rate: u64, max_header_rate: u64, max_bitrate: u64,
    max_tiles: u32, max_tile_cols: u32,
) -> Level {
    Level {
        idx, name, max_pic_size, max_h_size, max_v_size, max_display_rate, max_decode_rate,
        max_header_rate, max_bitrate, max_tiles, max_tile_cols,
    }
}

/// The smallest level, in the Main tier, of a stream of pictures of `width` x `height` luma
/// samples, shown at most `rate` times a second, at `bitrate` bits a second where it is known.
/// `None` beyond level 6.3.
///
/// The decode rate is taken to equal the display rate. Hidden frames do not add to it: rav1e and
/// SVT-AV1 show each of them later through `show_existing_frame`, which decodes nothing, so as
/// many frames are decoded as are shown (96 of 96 in either, where half the temporal units only
/// show). An encoder that codes overlay frames on top, as libaom does by default, decodes up to a
/// tenth more; the table's decode rates leave 10 to 25 % of room for that, but only 2 % at levels
/// 5.0 to 5.2 and 6.1 to 6.2. The same holds for frame headers. The bit rate limit is that of
/// profile 0; the others are allowed more.
pub fn level_for(width: u32, height: u32, rate: Rational, bitrate: Option<u64>) -> Option<&'static Level> {
    let pic_size = u64::from(width) * u64::from(height);
    // Whether so many a picture stay within a limit a second, without rounding the rate.
    let within = |each: u64, limit: u64| {
        u128::from(each) * u128::from(rate.num) <= u128::from(limit) * u128::from(rate.den)
    };
    LEVELS.iter().find(|level| {
        pic_size <= level.max_pic_size
            && width <= level.max_h_size
            && height <= level.max_v_size
            && within(pic_size, level.max_display_rate)
            && within(pic_size, level.max_decode_rate)
            && within(1, level.max_header_rate)
            && bitrate.is_none_or(|bits| bits <= level.max_bitrate)
    })
}

/// What people call a `seq_level_idx`: "4.0" for 8, "maximum" for 31 (AV1 Annex A.3).
pub fn level_name(idx: u8) -> String {
    match idx {
        31 => "maximum".to_owned(),
        24.. => format!("reserved ({idx})"),
        _ => format!("{}.{}", 2 + (idx >> 2), idx & 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(width: u32, height: u32, num: u64, den: u64, bitrate: Option<u64>) -> &'static str {
        level_for(width, height, Rational { num, den }, bitrate).map_or("none", |level| level.name)
    }

    #[test]
    fn the_examples_of_the_specification_fit_their_levels() {
        for (width, height, rate, expected) in [
            (426, 240, 30, "2.0"),
            (640, 360, 30, "2.1"),
            (854, 480, 30, "3.0"),
            (1280, 720, 30, "3.1"),
            (1920, 1080, 30, "4.0"),
            (1920, 1080, 60, "4.1"),
            (3840, 2160, 30, "5.0"),
            (3840, 2160, 60, "5.1"),
            (3840, 2160, 120, "5.2"),
            (7680, 4320, 30, "6.0"),
            (7680, 4320, 60, "6.1"),
            (7680, 4320, 120, "6.2"),
        ] {
            assert_eq!(name(width, height, rate, 1, None), expected, "{width}x{height} at {rate}");
        }
    }

    #[test]
    fn names_follow_from_the_index() {
        for level in LEVELS {
            assert_eq!(level.name, level_name(level.idx));
        }
        assert_eq!((level_name(31).as_str(), level_name(24).as_str()), ("maximum", "reserved (24)"));
    }

    #[test]
    fn rates_are_compared_exactly() {
        // 512 x 288 at 30 frames a second is exactly MaxDisplayRate of level 2.0.
        assert_eq!(name(512, 288, 30, 1, None), "2.0");
        assert_eq!(name(512, 288, 30_000_001, 1_000_000, None), "2.1");
        assert_eq!(name(1920, 1080, 60_000, 1001, None), "4.1");
        assert_eq!(name(512, 288, u64::MAX, u64::MAX / 30 - 1, None), "2.1");
    }

    #[test]
    fn every_limit_counts() {
        assert_eq!(name(2050, 16, 1, 1, None), "2.1", "width");
        assert_eq!(name(16, 1154, 1, 1, None), "2.1", "height");
        assert_eq!(name(640, 480, 1, 1, None), "3.0", "picture size");
        assert_eq!(name(64, 64, 151, 1, None), "4.0", "header rate");
        assert_eq!(name(64, 64, 301, 1, None), "none", "header rate");
        assert_eq!(name(640, 360, 30, 1, Some(3_000_000)), "2.1", "bit rate");
        assert_eq!(name(640, 360, 30, 1, Some(3_000_001)), "3.0", "bit rate");
        assert_eq!(name(16_386, 16, 1, 1, None), "none");
        assert_eq!(name(640, 360, 30, 1, Some(160_000_001)), "none");
    }
}
