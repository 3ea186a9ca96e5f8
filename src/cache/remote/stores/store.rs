//! Entries and blobs by OpenDAL. Concurrent requests are limited for each sort; reads are streamed and end as
//! soon as they are too long.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use opendal::{ErrorKind, Operator, Writer};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::fault::{is_unimplemented, remote_error};
use super::folder::Folder;
use super::single_object::ObjectStore;
use super::{BlobRef, Kind, ObjectKey, RemoteError, RemoteFault};
use crate::cache::remote::BlobSource;
use crate::cache::remote::delivery::Delivery;

/// Concurrent requests of each sort. Background uploads do not delay look-ups, and small objects do not wait
/// behind blobs until their caller times out.
const MAX_CONCURRENT: usize = 32;
/// Bytes of a request that stores a blob, or a part of one. They are held in memory.
const PART: u64 = 8 << 20;
/// Parts of a blob at most. S3 and Google take 10,000: blobs above 70 GiB have larger ones.
const MAX_PARTS: u64 = 9_000;
/// Bytes of a blob at most where it must be stored by a single request, as by WebDAV: it is held in memory.
const MAX_SINGLE_REQUEST: u64 = 256 << 20;

/// Where the objects are stored.
pub(super) enum Backend {
    Service(Operator),
    Folder(Box<Folder>),
}

pub(super) struct OpendalStore {
    backend: Backend,
    /// For reading entries, and for asking whether a blob is there.
    lookups: Semaphore,
    /// For reading blobs.
    reads: Semaphore,
    /// For storing entries, and for storing blobs.
    entry_writes: Semaphore,
    blob_writes: Semaphore,
    /// Whether the service has supported conditional writes so far.
    writes_conditionally: AtomicBool,
}

impl OpendalStore {
    pub fn new(backend: Backend) -> OpendalStore {
        let writes_conditionally = match &backend {
            Backend::Service(operator) => operator.info().capability().write_with_if_not_exists,
            Backend::Folder(_) => true,
        };
        OpendalStore {
            backend,
            lookups: Semaphore::new(MAX_CONCURRENT),
            reads: Semaphore::new(MAX_CONCURRENT),
            entry_writes: Semaphore::new(MAX_CONCURRENT),
            blob_writes: Semaphore::new(MAX_CONCURRENT),
            writes_conditionally: AtomicBool::new(writes_conditionally),
        }
    }

    /// Waits for a permit to read an object. `None` where nothing was stored yet.
    async fn read_permit(
        &self,
        object: &ObjectKey,
    ) -> Result<Option<(SemaphorePermit<'_>, &Operator)>, RemoteError> {
        match object.kind {
            Kind::Entry => self.lookup_permit(object, &self.lookups).await,
            Kind::Blob => self.lookup_permit(object, &self.reads).await,
        }
    }

    async fn lookup_permit<'s>(
        &'s self,
        object: &ObjectKey,
        permits: &'s Semaphore,
    ) -> Result<Option<(SemaphorePermit<'s>, &'s Operator)>, RemoteError> {
        let permit = permit(permits).await?;
        let operator = match &self.backend {
            Backend::Service(operator) => Some(operator),
            Backend::Folder(folder) => folder.reader(object).await?,
        };
        Ok(operator.map(|operator| (permit, operator)))
    }

    /// Waits for a permit to store, or remove, an object.
    async fn write_permit(
        &self,
        object: &ObjectKey,
    ) -> Result<(SemaphorePermit<'_>, &Operator), RemoteError> {
        let permits = match object.kind {
            Kind::Entry => &self.entry_writes,
            Kind::Blob => &self.blob_writes,
        };
        let permit = permit(permits).await?;
        let operator = match &self.backend {
            Backend::Service(operator) => operator,
            Backend::Folder(folder) => folder.writer(object).await?,
        };
        Ok((permit, operator))
    }

    async fn try_read(
        &self,
        operator: &Operator,
        name: &str,
        to: &mut Delivery<'_>,
    ) -> Result<(), ReadError> {
        let reader = operator.reader(name).await?;
        let mut pieces = match &self.backend {
            Backend::Service(_) => reader.into_stream(..).await?,
            // A folder can have devices and pipes in it, and a file's end costs one more read.
            Backend::Folder(_) => {
                let there = operator.stat(name).await?;
                if !there.is_file() {
                    return Err(opendal::Error::new(ErrorKind::IsADirectory, "not a file").into());
                }
                if there.content_length() > to.left() {
                    return Err(ReadError::Delivery(to.overrun()));
                }
                reader.into_stream(0..there.content_length()).await?
            }
        };
        while let Some(piece) = pieces.next().await {
            for part in piece? {
                to.write(part).await.map_err(ReadError::Delivery)?;
            }
        }
        Ok(())
    }

    async fn is_there(&self, operator: &Operator, blob: &BlobRef) -> Result<bool, RemoteError> {
        let object = ObjectKey::blob(blob);
        match operator.stat(&object.name).await {
            Ok(there) => Ok(there.is_file() && there.content_length() == blob.size),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed_to_look("looking for", &object, &error)),
        }
    }

    /// Stores a blob in parts. It is not visible before it is complete.
    async fn write_blob(
        &self,
        operator: &Operator,
        blob: &BlobRef,
        source: &dyn BlobSource,
        if_not_exists: bool,
    ) -> Result<(), WriteError> {
        let name = ObjectKey::blob(blob).name;
        let mut write = operator.writer_with(&name).if_not_exists(if_not_exists);
        let is_single = !operator.info().capability().write_can_multi;
        if is_single && blob.size > MAX_SINGLE_REQUEST {
            let told = format!(
                "storing {}: it has {} bytes, and this kind of remote takes {MAX_SINGLE_REQUEST} at most",
                ObjectKey::blob(blob),
                blob.size
            );
            return Err(WriteError::Other(RemoteError::new(RemoteFault::Unsupported, told)));
        }
        if !is_single {
            let part = PART.max(blob.size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
            write = write.chunk(part as usize);
        }
        let mut upload = Upload(Some(write.await?));
        let mut pieces = source.open(blob);
        let mut whole = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(WriteError::Other)?;
            if is_single {
                whole.push(piece);
            } else {
                upload.writer()?.write(piece).await?;
            }
        }
        if is_single {
            upload.writer()?.write(whole).await?;
        }
        upload.close().await?;
        Ok(())
    }

    /// `doing` is a word for a message: "reading".
    fn failed(&self, doing: &str, object: &ObjectKey, error: &opendal::Error) -> RemoteError {
        remote_error(format_args!("{doing} {object}"), error)
    }

    fn failed_to_store(&self, object: &ObjectKey, error: WriteError) -> RemoteError {
        match error {
            WriteError::Remote(error) => self.failed("storing", object, &error),
            WriteError::Other(error) => error,
        }
    }

    /// An unreadable file concerns one object, as its folder was opened.
    fn failed_to_look(&self, doing: &str, object: &ObjectKey, error: &opendal::Error) -> RemoteError {
        let failed = self.failed(doing, object, error);
        match (&self.backend, failed.fault) {
            (Backend::Folder(_), RemoteFault::Denied) => {
                RemoteError { fault: RemoteFault::Unsupported, ..failed }
            }
            _ => failed,
        }
    }
}

/// Why a read failed: in the store, or as what it sent was not accepted.
enum ReadError {
    Remote(opendal::Error),
    Delivery(RemoteError),
}

impl From<opendal::Error> for ReadError {
    fn from(error: opendal::Error) -> ReadError {
        ReadError::Remote(error)
    }
}

/// Why a blob was not stored: by the store, or as it cannot be read or is too large.
enum WriteError {
    Remote(opendal::Error),
    Other(RemoteError),
}

impl From<opendal::Error> for WriteError {
    fn from(error: opendal::Error) -> WriteError {
        WriteError::Remote(error)
    }
}

/// An upload under way. One that is dropped before it is complete, also by a timeout, is aborted, so that the
/// service keeps no parts of it.
struct Upload(Option<Writer>);

impl Upload {
    fn writer(&mut self) -> opendal::Result<&mut Writer> {
        self.0.as_mut().ok_or_else(|| opendal::Error::new(ErrorKind::Unexpected, "the upload is closed"))
    }

    async fn close(&mut self) -> opendal::Result<()> {
        self.writer()?.close().await?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(mut writer), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    tracing::debug!("an upload is not aborted: {:?}", error.kind());
                }
            });
        }
    }
}

async fn permit(permits: &Semaphore) -> Result<SemaphorePermit<'_>, RemoteError> {
    let permit = permits.acquire().await;
    permit.map_err(|closed| RemoteError::new(RemoteFault::Refused, closed.to_string()))
}

impl ObjectStore for OpendalStore {
    async fn read(&self, object: &ObjectKey, to: &mut Delivery<'_>) -> Result<bool, RemoteError> {
        let Some((_permit, operator)) = self.read_permit(object).await? else { return Ok(false) };
        match self.try_read(operator, &object.name, to).await {
            Ok(()) => Ok(true),
            Err(ReadError::Delivery(error)) => Err(error),
            Err(ReadError::Remote(error)) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(ReadError::Remote(error)) => Err(self.failed_to_look("reading", object, &error)),
        }
    }

    async fn has(&self, blob: &BlobRef) -> Result<bool, RemoteError> {
        match self.lookup_permit(&ObjectKey::blob(blob), &self.lookups).await? {
            Some((_permit, operator)) => self.is_there(operator, blob).await,
            None => Ok(false),
        }
    }

    async fn put(&self, object: &ObjectKey, bytes: Bytes) -> Result<(), RemoteError> {
        let (_permit, operator) = self.write_permit(object).await?;
        let written = operator.write(&object.name, bytes).await;
        written.map(drop).map_err(|error| self.failed("storing", object, &error))
    }

    async fn put_blob(&self, blob: &BlobRef, source: &dyn BlobSource) -> Result<(), RemoteError> {
        let object = ObjectKey::blob(blob);
        let (_permit, operator) = self.write_permit(&object).await?;
        if self.writes_conditionally.load(Ordering::Relaxed) {
            match self.write_blob(operator, blob, source, true).await {
                Ok(()) => return Ok(()),
                // One of another length was cut short or tampered with, and is replaced.
                Err(WriteError::Remote(error)) if error.kind() == ErrorKind::ConditionNotMatch => {
                    if self.is_there(operator, blob).await? {
                        return Ok(());
                    }
                }
                // Some S3-compatible servers do not support conditions.
                Err(WriteError::Remote(error)) if is_unimplemented(&error) => {
                    self.writes_conditionally.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(self.failed_to_store(&object, error)),
            }
        }
        let written = self.write_blob(operator, blob, source, false).await;
        written.map_err(|error| self.failed_to_store(&object, error))
    }

    async fn remove(&self, object: &ObjectKey) -> Result<(), RemoteError> {
        let (_permit, operator) = self.write_permit(object).await?;
        operator.delete(&object.name).await.map_err(|error| self.failed("removing", object, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;

    use super::*;
    use crate::cache::remote::delivery::Collector;
    use crate::cache::remote::{BlobStream, RemoteUrl};
    use crate::cache::{Digest, EntryKey};

    struct One(Bytes);

    impl BlobSource for One {
        fn open(&self, _blob: &BlobRef) -> BlobStream {
            stream::iter([Ok(self.0.clone())]).boxed()
        }
    }

    #[test]
    fn what_is_small_does_not_wait_behind_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let url: RemoteUrl = format!("fs://{}", folder.path().display()).parse().unwrap();
        let store = OpendalStore::new(Backend::Folder(Box::new(Folder::at(&url).unwrap())));
        let entry = ObjectKey::entry(&EntryKey(Digest::of(b"key")));
        let blob = BlobRef { digest: Digest::of(b"x"), size: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = async {
            store.put_blob(&blob, &One(Bytes::from_static(b"x"))).await.unwrap();
            let all = MAX_CONCURRENT as u32;
            let _blobs_come = store.reads.acquire_many(all).await.unwrap();
            let _blobs_go = store.blob_writes.acquire_many(all).await.unwrap();
            store.put(&entry, Bytes::from_static(b"entry")).await.unwrap();
            let collector = Collector::new(1);
            let mut delivery = Delivery::new(&collector, 0, String::new(), 10);
            assert!(store.read(&entry, &mut delivery).await.unwrap());
            assert!(store.has(&blob).await.unwrap());
        };
        // Only a deadlock lasts that long.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await }).unwrap();
    }
}
