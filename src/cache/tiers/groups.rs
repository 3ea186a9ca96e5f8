//! Groups of blobs for one call: large enough that round trips do not matter, small enough for memory.

use crate::cache::BlobRef;

/// Blobs of a group at most.
const MAX_BLOBS: usize = 128;
/// Bytes of a group at most, unless one blob alone has more.
const MAX_BYTES: u64 = 8 << 20;

/// Groups of neighbours.
pub(super) fn of(blobs: &[BlobRef]) -> impl Iterator<Item = &[BlobRef]> {
    let mut rest = blobs;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fits = |(number, blob): &(usize, &BlobRef)| {
            bytes = bytes.saturating_add(blob.size);
            *number == 0 || (*number < MAX_BLOBS && bytes <= MAX_BYTES)
        };
        let count = rest.iter().enumerate().take_while(fits).count();
        let (group, behind) = rest.split_at(count);
        rest = behind;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Digest;

    #[test]
    fn every_blob_is_in_one_group_and_groups_are_small() {
        let sizes = [1, MAX_BYTES, 1, MAX_BYTES * 3, 2, 2].into_iter().chain([7; 300]);
        let blobs: Vec<BlobRef> = sizes.map(|size| BlobRef { digest: Digest::of(b""), size }).collect();
        let groups: Vec<_> = of(&blobs).collect();
        assert_eq!(groups.concat(), blobs);
        for group in &groups {
            assert!(group.len() <= MAX_BLOBS);
            assert!(group.len() == 1 || group.iter().map(|blob| blob.size).sum::<u64>() <= MAX_BYTES);
        }
        assert_eq!(groups.len(), 7);
        assert_eq!(of(&[]).count(), 0);
    }
}
