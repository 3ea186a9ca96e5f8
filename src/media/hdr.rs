//! What a display needs to know of a source in high dynamic range: the display that it was mastered
//! on (SMPTE ST 2086) and how bright it gets (CTA-861.3), in AV1's own units.

use serde::{Deserialize, Serialize};

/// `None` where the source has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HdrMetadata {
    pub mastering: Option<MasteringDisplay>,
    pub content_light: Option<ContentLight>,
}

/// AV1 6.7.4: chromaticities as 0.16 fixed-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MasteringDisplay {
    /// x and y of red, green and blue.
    pub primaries: [[u16; 2]; 3],
    pub white_point: [u16; 2],
    /// Candelas per square metre, as a 24.8 fixed-point number.
    pub max_luminance: u32,
    /// As an 18.14 fixed-point number.
    pub min_luminance: u32,
}

/// AV1 6.7.3: candelas per square metre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentLight {
    /// Of the brightest pixel.
    pub max_cll: u16,
    /// Of the brightest frame, on average.
    pub max_fall: u16,
}

impl HdrMetadata {
    pub fn is_empty(&self) -> bool {
        self.mastering.is_none() && self.content_light.is_none()
    }

    /// This metadata, completed from `other` where it has none.
    pub fn or(self, other: HdrMetadata) -> HdrMetadata {
        HdrMetadata {
            mastering: self.mastering.or(other.mastering),
            content_light: self.content_light.or(other.content_light),
        }
    }
}

/// `num / den` with `bits` bits behind the point, rounded; `None` if it is negative, or too large.
pub(super) fn fixed_point(num: i32, den: i32, bits: u32) -> Option<u32> {
    let (num, den) = (u64::try_from(num).ok()?, u64::try_from(den).ok().filter(|&den| den > 0)?);
    u32::try_from(((num << bits) + den / 2) / den).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_become_fixed_point_numbers() {
        assert_eq!(fixed_point(35_400, 50_000, 16), Some(46_399));
        assert_eq!(fixed_point(10_000_000, 10_000, 8), Some(256_000));
        assert_eq!(fixed_point(1, 10_000, 14), Some(2));
        assert_eq!(fixed_point(-1, 10_000, 14), None);
        assert_eq!(fixed_point(1, 0, 14), None);
        assert_eq!(fixed_point(i32::MAX, 1, 14), None);
    }
}
