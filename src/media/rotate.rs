//! Turning a plane of samples by quarters, for pictures that a camera stored lying on their side.

use super::Rotation;

/// The plane turned clockwise. `width` and `height` are in samples of `size` bytes, before
/// turning; rows have no padding.
pub(super) fn rotated(
    plane: Vec<u8>,
    width: usize,
    height: usize,
    size: usize,
    rotation: Rotation,
) -> Vec<u8> {
    if rotation == Rotation::None || plane.len() != width * height * size {
        return plane;
    }
    let (to_width, to_height) = if rotation.swaps_sides() { (height, width) } else { (width, height) };
    let mut turned = Vec::with_capacity(plane.len());
    for y in 0..to_height {
        for x in 0..to_width {
            let (from_x, from_y) = match rotation {
                Rotation::None => (x, y),
                Rotation::Clockwise90 => (y, height - 1 - x),
                Rotation::Half => (width - 1 - x, height - 1 - y),
                Rotation::Clockwise270 => (width - 1 - y, x),
            };
            let at = (from_y * width + from_x) * size;
            turned.extend_from_slice(&plane[at..at + size]);
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters() {
        let plane = vec![1, 2, 3, 4, 5, 6]; // 3 wide, 2 high
        assert_eq!(rotated(plane.clone(), 3, 2, 1, Rotation::Clockwise90), [4, 1, 5, 2, 6, 3]);
        assert_eq!(rotated(plane.clone(), 3, 2, 1, Rotation::Half), [6, 5, 4, 3, 2, 1]);
        assert_eq!(rotated(plane.clone(), 3, 2, 1, Rotation::Clockwise270), [3, 6, 2, 5, 1, 4]);
        let pairs = vec![1, 0, 2, 0, 3, 0, 4, 0];
        assert_eq!(rotated(pairs, 2, 2, 2, Rotation::Clockwise90), [3, 0, 1, 0, 4, 0, 2, 0]);
    }
}
