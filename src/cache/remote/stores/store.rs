//! Entries and blobs by OpenDAL. Requests of all groups run side by side up to a limit; what is read is
//! taken as it comes and given up as soon as it is too long.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use opendal::{ErrorKind, Operator};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::each::Keeper;
use super::fault::{is_unimplemented, remote_error};
use super::folder::Folder;
use super::{BlobRef, Kind, RemoteError, RemoteFault, Thing, nonsense};

/// Requests at once, of each sort: what goes up behind a build's back keeps nobody waiting who looks
/// something up, and what is small does not wait behind blobs for longer than its caller has patience.
const AT_ONCE: usize = 32;
/// Bytes that are set aside for an answer before any has come.
const FIRST_BYTES: u64 = 64 << 10;

/// What lies behind an operator.
pub(super) enum Place {
    Service(Operator),
    Folder(Box<Folder>),
}

pub(super) struct Store {
    place: Place,
    /// For entries that are read, and for asking whether a blob is there.
    looks: Semaphore,
    /// For blobs that are read.
    reads: Semaphore,
    /// For entries that are stored, and for blobs.
    entry_writes: Semaphore,
    blob_writes: Semaphore,
    /// Whether "write it if it is not there" has been understood so far.
    writes_conditionally: AtomicBool,
}

impl Store {
    pub fn new(place: Place) -> Store {
        let writes_conditionally = match &place {
            Place::Service(operator) => operator.info().capability().write_with_if_not_exists,
            Place::Folder(_) => true,
        };
        Store {
            place,
            looks: Semaphore::new(AT_ONCE),
            reads: Semaphore::new(AT_ONCE),
            entry_writes: Semaphore::new(AT_ONCE),
            blob_writes: Semaphore::new(AT_ONCE),
            writes_conditionally: AtomicBool::new(writes_conditionally),
        }
    }

    /// Waits until one more request may read something. `None` where nothing was stored yet.
    async fn turn_to_read(
        &self,
        thing: &Thing,
    ) -> Result<Option<(SemaphorePermit<'_>, &Operator)>, RemoteError> {
        match thing.kind {
            Kind::Entry => self.turn_to_look(thing, &self.looks).await,
            Kind::Blob => self.turn_to_look(thing, &self.reads).await,
        }
    }

    async fn turn_to_look<'s>(
        &'s self,
        thing: &Thing,
        turns: &'s Semaphore,
    ) -> Result<Option<(SemaphorePermit<'s>, &'s Operator)>, RemoteError> {
        let turn = turn(turns).await?;
        let operator = match &self.place {
            Place::Service(operator) => Some(operator),
            Place::Folder(folder) => folder.reader(thing).await?,
        };
        Ok(operator.map(|operator| (turn, operator)))
    }

    /// Waits until one more request may store, or remove, something.
    async fn turn_to_write(&self, thing: &Thing) -> Result<(SemaphorePermit<'_>, &Operator), RemoteError> {
        let turns = match thing.kind {
            Kind::Entry => &self.entry_writes,
            Kind::Blob => &self.blob_writes,
        };
        let turn = turn(turns).await?;
        let operator = match &self.place {
            Place::Service(operator) => operator,
            Place::Folder(folder) => folder.writer(thing).await?,
        };
        Ok((turn, operator))
    }

    /// `None` where there are more than `most` bytes.
    async fn try_read(&self, operator: &Operator, name: &str, most: u64) -> opendal::Result<Option<Bytes>> {
        let reader = operator.reader(name).await?;
        let mut pieces = match &self.place {
            Place::Service(_) => reader.into_stream(..).await?,
            // A folder can have devices and pipes in it, and a file's end costs one more read.
            Place::Folder(_) => {
                let there = operator.stat(name).await?;
                if !there.is_file() {
                    return Err(opendal::Error::new(ErrorKind::IsADirectory, "not a file"));
                }
                if there.content_length() > most {
                    return Ok(None);
                }
                reader.into_stream(0..there.content_length()).await?
            }
        };
        let mut bytes = BytesMut::with_capacity(most.min(FIRST_BYTES) as usize);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if (bytes.len() + piece.len()) as u64 > most {
                return Ok(None);
            }
            for part in piece {
                bytes.extend_from_slice(&part);
            }
        }
        Ok(Some(bytes.freeze()))
    }

    async fn is_there(&self, operator: &Operator, blob: &BlobRef) -> Result<bool, RemoteError> {
        let thing = Thing::blob(blob);
        match operator.stat(&thing.name).await {
            Ok(there) => Ok(there.is_file() && there.content_length() == blob.size),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed_to_look("looking for", &thing, &error)),
        }
    }

    async fn write(&self, operator: &Operator, thing: &Thing, bytes: Bytes) -> Result<(), RemoteError> {
        let written = operator.write(&thing.name, bytes).await;
        written.map(drop).map_err(|error| self.failed("storing", thing, &error))
    }

    /// `doing` is a word for a message: "reading".
    fn failed(&self, doing: &str, thing: &Thing, error: &opendal::Error) -> RemoteError {
        remote_error(format_args!("{doing} {thing}"), error)
    }

    /// A file that may not be read is one file of a folder that was opened.
    fn failed_to_look(&self, doing: &str, thing: &Thing, error: &opendal::Error) -> RemoteError {
        let failed = self.failed(doing, thing, error);
        match (&self.place, failed.fault) {
            (Place::Folder(_), RemoteFault::Denied) => RemoteError { fault: RemoteFault::Unfit, ..failed },
            _ => failed,
        }
    }
}

async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, RemoteError> {
    let turn = turns.acquire().await;
    turn.map_err(|closed| RemoteError::new(RemoteFault::Refused, closed.to_string()))
}

impl Keeper for Store {
    async fn read(&self, thing: &Thing, most: u64) -> Result<Option<Bytes>, RemoteError> {
        let Some((_turn, operator)) = self.turn_to_read(thing).await? else { return Ok(None) };
        match self.try_read(operator, &thing.name, most).await {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => Err(nonsense(format_args!("{thing} has more than {most} bytes"))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed_to_look("reading", thing, &error)),
        }
    }

    async fn has(&self, blob: &BlobRef) -> Result<bool, RemoteError> {
        match self.turn_to_look(&Thing::blob(blob), &self.looks).await? {
            Some((_turn, operator)) => self.is_there(operator, blob).await,
            None => Ok(false),
        }
    }

    async fn put(&self, thing: &Thing, bytes: Bytes) -> Result<(), RemoteError> {
        let (_turn, operator) = self.turn_to_write(thing).await?;
        self.write(operator, thing, bytes).await
    }

    async fn put_blob(&self, blob: &BlobRef, bytes: Bytes) -> Result<(), RemoteError> {
        let thing = Thing::blob(blob);
        let (_turn, operator) = self.turn_to_write(&thing).await?;
        if self.writes_conditionally.load(Ordering::Relaxed) {
            match operator.write_with(&thing.name, bytes.clone()).if_not_exists(true).await {
                Ok(_) => return Ok(()),
                // What has another length was cut short or put there to annoy: it is replaced.
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => {
                    if self.is_there(operator, blob).await? {
                        return Ok(());
                    }
                }
                // Some that call themselves compatible do not know conditions.
                Err(error) if is_unimplemented(&error) => {
                    self.writes_conditionally.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(self.failed("storing", &thing, &error)),
            }
        }
        self.write(operator, &thing, bytes).await
    }

    async fn remove(&self, thing: &Thing) -> Result<(), RemoteError> {
        let (_turn, operator) = self.turn_to_write(thing).await?;
        operator.delete(&thing.name).await.map_err(|error| self.failed("removing", thing, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::remote::RemoteUrl;
    use crate::cache::{ActionKey, Digest};

    #[test]
    fn what_is_small_does_not_wait_behind_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let url: RemoteUrl = format!("fs://{}", folder.path().display()).parse().unwrap();
        let store = Store::new(Place::Folder(Box::new(Folder::at(&url).unwrap())));
        let entry = Thing::entry(&ActionKey(Digest::of(b"key")));
        let blob = BlobRef { digest: Digest::of(b"x"), size: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = async {
            store.put_blob(&blob, Bytes::from_static(b"x")).await.unwrap();
            let all = AT_ONCE as u32;
            let _blobs_come = store.reads.acquire_many(all).await.unwrap();
            let _blobs_go = store.blob_writes.acquire_many(all).await.unwrap();
            store.put(&entry, Bytes::from_static(b"entry")).await.unwrap();
            assert!(store.read(&entry, 10).await.unwrap().is_some());
            assert!(store.has(&blob).await.unwrap());
        };
        // Only who waits for ever is not done by then.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await }).unwrap();
    }
}
