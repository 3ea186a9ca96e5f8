//! Blobs as streams: any size and any cut into pieces comes back as it was written, damage is an error in place
//! of the end, and nothing is ever held in memory whole.

mod common;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use proptest::prelude::*;
use rivet::testing::cache::{BlobRef, Cache, DamagedBlob, Digest, LocalCache};

fn cache() -> (tempfile::TempDir, LocalCache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(folder.path()).unwrap();
    (folder, cache)
}

/// `size` bytes that no other seed has.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Files below a folder, but for folders.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_written_in_any_pieces_is_read_in_any_pieces(
        size in prop_oneof![0..10usize, 1000..5000usize, 250_000..1_200_000usize],
        written in prop::collection::vec(1..400_000usize, 1..6),
        read in prop::collection::vec(1..400_000usize, 1..6),
    ) {
        let (_folder, cache) = cache();
        let bytes = content(size as u64, size);
        let mut writer = cache.blob_writer().unwrap();
        let mut rest = &bytes[..];
        for length in written.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*length));
            writer.write_all(piece).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let blob = writer.finish().unwrap();
        prop_assert_eq!(blob, BlobRef { digest: Digest::of(&bytes), size: size as u64 });
        let mut reader = cache.open_blob(&blob).unwrap().unwrap();
        let mut came = Vec::new();
        for length in read.iter().cycle() {
            let mut piece = vec![0; *length];
            match reader.read(&mut piece).unwrap() {
                0 => break,
                count => came.extend_from_slice(&piece[..count]),
            }
        }
        prop_assert!(came == bytes);
        prop_assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_an_error_and_heals(at in 0..700_000usize, bit in 0..8u8) {
        let (_folder, cache) = cache();
        let bytes = content(1, 700_000);
        let blob = cache.put_blob(&bytes).unwrap();
        let path = cache.blob_file(&blob).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        fs::write(&path, &damaged).unwrap();
        let mut reader = cache.open_blob(&blob).unwrap().unwrap();
        // Whoever takes no more than the blob's length notices, too.
        let mut came = vec![0; bytes.len()];
        let error = reader.read_exact(&mut came).unwrap_err();
        prop_assert_eq!(DamagedBlob::of(&error).unwrap().blob, blob);
        let again = reader.read(&mut [0; 10]).unwrap_err();
        prop_assert!(DamagedBlob::of(&again).is_some(), "it does not end well after that");
        prop_assert!(!path.exists() && cache.open_blob(&blob).unwrap().is_none());
        cache.put_blob(&bytes).unwrap();
        prop_assert!(cache.blob(&blob).unwrap().unwrap() == bytes);
    }
}

#[test]
fn a_blob_that_is_cut_while_it_is_read_is_damaged() {
    let (_folder, cache) = cache();
    let blob = cache.put_blob(&content(2, 1_000_000)).unwrap();
    let mut reader = cache.open_blob(&blob).unwrap().unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    File::options().write(true).open(cache.blob_file(&blob).unwrap()).unwrap().set_len(500_000).unwrap();
    let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
    assert!(DamagedBlob::of(&error).is_some(), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let other = io::Error::new(ErrorKind::InvalidData, "something else");
    assert!(DamagedBlob::of(&other).is_none());
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let (folder, cache) = cache();
    let before = files(folder.path());
    for size in [10, 300_000, 3_000_000] {
        let mut writer = cache.blob_writer().unwrap();
        writer.write_all(&content(3, size)).unwrap();
        drop(writer);
        assert_eq!(files(folder.path()), before);
    }
    // What is there already leaves nothing, either.
    cache.put_blob(&content(3, 3_000_000)).unwrap();
    let one = files(folder.path());
    cache.put_blob(&content(3, 3_000_000)).unwrap();
    assert_eq!(files(folder.path()), one);
}

/// A file of 6 GiB that takes no space: larger than anything that was once taken.
#[test]
fn a_blob_may_have_any_size() {
    let (_folder, cache) = cache();
    let blob = BlobRef { digest: Digest::of(b"not its digest"), size: 6 << 30 };
    let path = cache.blob_file(&blob).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(&path).unwrap().set_len(blob.size).unwrap();
    assert!(cache.has_blob(&blob).unwrap());
    let mut reader = cache.open_blob(&blob).unwrap().unwrap();
    let mut came = vec![1; 1 << 20];
    reader.read_exact(&mut came).unwrap();
    assert!(came.iter().all(|byte| *byte == 0));
}

#[cfg(feature = "stores")]
mod tiers {
    use std::sync::Arc;
    use std::time::Duration;

    use common::own_process::own_process;
    use rivet::testing::cache::remote::NamedBy;
    use rivet::testing::cache::trust::{SigningKey, Trust};
    use rivet::testing::cache::{CacheEntry, EntryKey, EntryResult, RemoteOptions, Tiers};

    use super::*;

    const SIZE: u64 = 192 << 20;

    fn tiers(folder: &Path, remote: &Path, trust: Trust) -> Tiers {
        let options = RemoteOptions {
            url: format!("fs://{}", remote.display()).parse().unwrap(),
            named_by: NamedBy::User,
            folder_named_by: NamedBy::User,
            trust,
            read_only: false,
            timeout: Duration::from_secs(60),
            cancelled: Arc::default(),
        };
        Tiers::with_remote(Arc::new(LocalCache::open(folder).unwrap()), options).unwrap()
    }

    /// The most memory that this process has had at once, in bytes.
    fn most_memory() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    #[test]
    fn a_large_blob_goes_to_a_remote_and_back_in_little_memory() {
        own_process("tiers::a_large_blob_goes_to_a_remote_and_back_in_little_memory", &[], &[], || {
            let place = tempfile::tempdir().unwrap();
            let [ann, bob, remote] = ["ann", "bob", "remote"].map(|name| place.path().join(name));
            fs::create_dir(&remote).unwrap();
            let signer = SigningKey::generate().unwrap();
            let mut believes = Trust::new(None);
            believes.add_key(signer.public(), "ann");
            let before = most_memory();

            let ann = tiers(&ann, &remote, Trust::new(Some(signer)));
            let mut writer = ann.blob_writer().unwrap();
            io::copy(&mut io::repeat(7).take(SIZE), &mut writer).unwrap();
            let blob = writer.finish().unwrap();
            assert_eq!(blob.size, SIZE);
            let key = EntryKey(Digest::of(b"key"));
            let result = EntryResult { blobs: vec![blob], ..EntryResult::default() };
            ann.put_entry(&key, &CacheEntry { result, ..CacheEntry::default() }).unwrap();
            ann.finish(&|| false, &|_| ());
            let report = ann.report().unwrap();
            assert_eq!((report.stored_entries, report.stored_bytes), (1, SIZE), "{report:?}");

            let bob = tiers(&bob, &remote, believes);
            let found = bob.find_entry(&key).unwrap().unwrap();
            assert_eq!(found.result.blobs, [blob]);
            let mut reader = bob.open_blob(&blob).unwrap().unwrap();
            assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), SIZE);
            assert_eq!(bob.report().unwrap().fetched_bytes, SIZE);
            let taken = most_memory() - before;
            assert!(taken < SIZE / 3, "{taken} bytes were taken");
        });
    }
}
