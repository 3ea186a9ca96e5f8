//! A file as what it is put together of: bytes of its own, and ranges of blobs that lie elsewhere. So
//! whatever is only rearranged is stored once however many files carry it, and no file is ever held in memory
//! whole. Where blobs lie is not known here: whoever puts a file together says how they are opened.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Bytes by what they are: a blob, or a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentId {
    /// BLAKE3.
    #[serde(with = "hash")]
    pub digest: blake3::Hash,
    /// In bytes.
    pub size: u64,
}

impl ContentId {
    pub fn of(bytes: &[u8]) -> ContentId {
        ContentId { digest: blake3::hash(bytes), size: bytes.len() as u64 }
    }
}

/// A digest as its 32 bytes.
mod hash {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(digest: &blake3::Hash, to: S) -> Result<S::Ok, S::Error> {
        digest.as_bytes().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<blake3::Hash, D::Error> {
        <[u8; 32]>::deserialize(from).map(blake3::Hash::from_bytes)
    }
}

/// A run of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// `length` bytes of a blob, from byte `offset` of it.
    Range {
        blob: ContentId,
        offset: u64,
        length: u64,
    },
}

impl Part {
    /// All of a blob.
    pub fn whole(blob: ContentId) -> Part {
        Part::Range { blob, offset: 0, length: blob.size }
    }

    fn length(&self) -> u64 {
        match self {
            Part::Inline(bytes) => bytes.len() as u64,
            Part::Range { length, .. } => *length,
        }
    }
}

/// A file as its parts, in order, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composition {
    pub content: ContentId,
    pub parts: Vec<Part>,
}

/// Where blobs are read.
pub trait Blobs {
    /// A blob from its first byte on; `None` where it is not there. Whoever reads it holds it against its
    /// name.
    fn open(&mut self, blob: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>>;
}

/// A file that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error("the blob {} is not there", .0.digest)]
    Missing(ContentId),
    #[error("the blob {} cannot be read: {source}", blob.digest)]
    Unreadable { blob: ContentId, source: io::Error },
    #[error("the blob {} holds other bytes than its name says", .0.digest)]
    Damaged(ContentId),
    #[error("the blob {} has no bytes {offset} to {offset} + {length}: it ends at {}", blob.digest, blob.size)]
    Beyond { blob: ContentId, offset: u64, length: u64 },
    #[error(
        "the parts are another file: expected {} bytes with digest {}, found {} with {}",
        expected.size, expected.digest, found.size, found.digest
    )]
    Whole { expected: ContentId, found: ContentId },
    #[error("it cannot be written: {0}")]
    Write(io::Error),
}

impl ComposeError {
    /// The blob that is at fault, where one is.
    pub fn blob(&self) -> Option<ContentId> {
        match self {
            ComposeError::Missing(blob)
            | ComposeError::Damaged(blob)
            | ComposeError::Unreadable { blob, .. }
            | ComposeError::Beyond { blob, .. } => Some(*blob),
            ComposeError::Whole { .. } | ComposeError::Write(_) => None,
        }
    }
}

impl Composition {
    /// A file of bytes that are nowhere else.
    pub fn inline(bytes: Vec<u8>) -> Composition {
        Composition { content: ContentId::of(&bytes), parts: vec![Part::Inline(bytes)] }
    }

    /// What parts come to. Reads every blob once; keeps none.
    pub fn of(parts: Vec<Part>, blobs: &mut dyn Blobs) -> Result<Composition, ComposeError> {
        let content = write_parts(&parts, blobs, &mut io::sink())?;
        Ok(Composition { content, parts })
    }

    /// Writes the file. Every blob is held against its name as it is read, and the whole against its digest;
    /// what was written before an error is of no use.
    pub fn write_to(&self, blobs: &mut dyn Blobs, out: &mut dyn Write) -> Result<(), ComposeError> {
        let found = write_parts(&self.parts, blobs, out)?;
        if found != self.content {
            return Err(ComposeError::Whole { expected: self.content, found });
        }
        Ok(())
    }

    /// The blobs that it takes bytes of, in order.
    pub fn blobs(&self) -> impl Iterator<Item = ContentId> {
        self.parts.iter().filter_map(|part| match part {
            Part::Range { blob, .. } => Some(*blob),
            Part::Inline(_) => None,
        })
    }

    /// Whether it could be a file at all, as far as that can be told without reading blobs: no part reaches
    /// beyond its blob, the parts are as long as the whole, and what is inline alone has the whole's digest.
    pub fn is_sound(&self) -> bool {
        let within = |part: &Part| match part {
            Part::Inline(_) => true,
            Part::Range { blob, offset, length } => is_within(blob, *offset, *length),
        };
        let length = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.length()));
        if length != Some(self.content.size) || !self.parts.iter().all(within) {
            return false;
        }
        self.blobs().next().is_some() || self.write_to(&mut NoBlobs, &mut io::sink()).is_ok()
    }
}

/// For files that need none.
struct NoBlobs;

impl Blobs for NoBlobs {
    fn open(&mut self, _: &ContentId) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(None)
    }
}

fn is_within(blob: &ContentId, offset: u64, length: u64) -> bool {
    offset.checked_add(length).is_some_and(|end| end <= blob.size)
}

/// Writes parts to `out` and returns what they come to.
fn write_parts(
    parts: &[Part],
    blobs: &mut dyn Blobs,
    out: &mut dyn Write,
) -> Result<ContentId, ComposeError> {
    let mut whole = Hashing { hasher: blake3::Hasher::new(), size: 0, out };
    for part in parts {
        match part {
            Part::Inline(bytes) => whole.write(bytes)?,
            Part::Range { blob, offset, length } => write_range(blob, *offset, *length, blobs, &mut whole)?,
        }
    }
    Ok(ContentId { digest: whole.hasher.finalize(), size: whole.size })
}

/// Reads all of a blob, which is the only way to know that it is what its name says, and writes a range of
/// it.
fn write_range(
    blob: &ContentId,
    offset: u64,
    length: u64,
    blobs: &mut dyn Blobs,
    whole: &mut Hashing<'_>,
) -> Result<(), ComposeError> {
    if !is_within(blob, offset, length) {
        return Err(ComposeError::Beyond { blob: *blob, offset, length });
    }
    let unreadable = |source| ComposeError::Unreadable { blob: *blob, source };
    let reader = blobs.open(blob).map_err(unreadable)?.ok_or(ComposeError::Missing(*blob))?;
    // A byte more than there should be is enough to know that there is too much.
    let mut reader = reader.take(blob.size.saturating_add(1));
    let mut digest = blake3::Hasher::new();
    let mut at = 0u64;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(unreadable(source)),
        };
        digest.update(read);
        // Both are at most the length of what was read.
        let within = |place: u64| place.saturating_sub(at).min(read.len() as u64) as usize;
        whole.write(read.get(within(offset)..within(offset + length)).unwrap_or_default())?;
        at += read.len() as u64;
    }
    if at != blob.size || digest.finalize() != blob.digest {
        return Err(ComposeError::Damaged(*blob));
    }
    Ok(())
}

/// Bytes of a blob that are in memory at a time.
const BUFFER: usize = 128 * 1024;

/// Writes, and knows what it wrote.
struct Hashing<'a> {
    hasher: blake3::Hasher,
    size: u64,
    out: &'a mut dyn Write,
}

impl Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ComposeError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes).map_err(ComposeError::Write)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::package::test_tools::Memory;

    proptest! {
        /// Whatever the parts, what is written is what they name, and is found out where a blob is not.
        #[test]
        fn parts_are_written_in_order(
            parts in proptest::collection::vec((any::<bool>(), 0usize..400_000, 0usize..400_000), 0..5),
            wrong in any::<proptest::sample::Index>(),
        ) {
            let bytes: Vec<u8> = (0..400_000u32).map(|n| (n / 7 % 251) as u8).collect();
            let (mut expected, mut made, mut memory) = (Vec::new(), Vec::new(), Memory::default());
            for (inline, one, other) in parts {
                let (from, to) = (one.min(other), one.max(other));
                expected.extend_from_slice(&bytes[from..to]);
                let content = bytes[..to].to_vec();
                made.push(match inline {
                    true => Part::Inline(content[from..].to_vec()),
                    false => Part::Range {
                        blob: memory.put(content),
                        offset: from as u64,
                        length: (to - from) as u64,
                    },
                });
            }
            let file = Composition::of(made, &mut memory).unwrap();
            prop_assert!(file.is_sound());
            prop_assert_eq!(file.content, ContentId::of(&expected));
            let mut written = Vec::new();
            file.write_to(&mut memory, &mut written).unwrap();
            prop_assert_eq!(written, expected);
            let read: Composition = postcard::from_bytes(&postcard::to_stdvec(&file).unwrap()).unwrap();
            prop_assert_eq!(&read, &file);

            // A flipped bit anywhere, also outside of the range.
            let blobs: Vec<ContentId> = file.blobs().filter(|blob| blob.size > 0).collect();
            if let Some(blob) = (!blobs.is_empty()).then(|| blobs[wrong.index(blobs.len())]) {
                let place = wrong.index(blob.size as usize);
                memory.0.get_mut(&blob).unwrap()[place] ^= 1;
                let error = file.write_to(&mut memory, &mut io::sink()).unwrap_err();
                prop_assert!(matches!(error, ComposeError::Damaged(damaged) if damaged == blob), "{error}");
                memory.0.get_mut(&blob).unwrap().pop();
                let error = file.write_to(&mut memory, &mut io::sink()).unwrap_err();
                prop_assert!(matches!(error, ComposeError::Damaged(damaged) if damaged == blob), "{error}");
                memory.0.remove(&blob);
                let error = file.write_to(&mut memory, &mut io::sink()).unwrap_err();
                prop_assert!(matches!(error, ComposeError::Missing(missing) if missing == blob), "{error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_file_is_not_sound() {
        let blob = ContentId::of(b"blob");
        let file = |content: &[u8], parts| Composition { content: ContentId::of(content), parts };
        let range = |offset, length| Part::Range { blob, offset, length };
        assert!(file(b"lob", vec![range(1, 3)]).is_sound());
        for parts in [vec![range(2, 3)], vec![range(u64::MAX, 3)], vec![range(0, 2)], Vec::new()] {
            assert!(!file(b"lob", parts).is_sound());
        }
        assert!(!file(b"lob", vec![Part::Inline(b"lab".to_vec())]).is_sound());
        let beyond = file(b"lob", vec![range(2, 3)]).write_to(&mut NoBlobs, &mut io::sink());
        assert!(matches!(beyond, Err(ComposeError::Beyond { .. })));
        let other = file(b"bob", vec![Part::Inline(b"lob".to_vec())]).write_to(&mut NoBlobs, &mut io::sink());
        assert!(matches!(other, Err(ComposeError::Whole { .. })));
    }
}
