//! A server of Bazel's Remote Execution API (version 2) as a remote: `grpc://host:port/instance`, or
//! `grpcs://` with TLS. It needs Capabilities, ContentAddressableStorage, ByteStream and ActionCache;
//! nothing is ever run there.
//!
//! ```text
//! blobs     ContentAddressableStorage, by the server's digests
//! entries   ActionCache: the digest of an Action whose salt is `rivet entry v3:` + the action key →
//!           ActionResult { stdout: the entry's bytes, output_files: its blobs, by their BLAKE3 }
//! aliases   only where the server's digests are not BLAKE3.
//!           ActionCache: the digest of an Action whose salt is `rivet blob v1:` + BLAKE3 + length →
//!           ActionResult { output_files: one, named by the BLAKE3, with the server's digest }
//! ```
//!
//! An entry above 512 KiB is a blob itself, as the protocol has it for long outputs. Entries and aliases
//! name the blobs that they need as outputs, so that a server that keeps results complete drops them
//! together.
//!
//! Small blobs go in batches, larger ones by ByteStream. What a server sends is bounded before it is kept,
//! and checked except for digests, which callers verify.

mod action;
mod alias;
mod byte_stream;
mod capabilities;
mod cas;
mod connect;
mod content;
mod credentials;
mod digest;
mod fault;
mod redact;
mod results;
mod server;
mod uuid;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use alias::Aliases;
use content::Content;
use digest::{Function, Name};
use fault::Doing;
use redact::Redaction;
use results::EntryBytes;
use server::{CapabilitiesQuery, Server};

use super::delivery::Collector;
use super::{BlobSink, BlobSource, MAX_BLOB, NamedBy, Remote, RemoteError, RemoteFault, RemoteUrl};
use crate::cache::{BlobRef, Digest, EntryKey};

/// Concurrent calls to ActionCache, which has no batches.
const MAX_CONCURRENT: usize = 64;
/// Blobs hashed at a time for their name on the server.
const HASHED_AT_ONCE: usize = 8;

struct Reapi {
    capabilities: CapabilitiesQuery,
    aliases: Aliases,
    redaction: Redaction,
}

/// Opens the server at `url`; see [`super::open`].
pub(super) fn open(
    url: &RemoteUrl,
    named_by: NamedBy,
    connect_timeout: Duration,
) -> Result<Arc<dyn Remote>, RemoteError> {
    let (channel, instance) = connect::connect(url, named_by, connect_timeout)?;
    let capabilities = CapabilitiesQuery::new(channel, instance);
    let redaction = Redaction::of(credentials::token());
    Ok(Arc::new(Reapi { capabilities, aliases: Aliases::default(), redaction }))
}

impl Remote for Reapi {
    fn entries<'a>(&'a self, keys: &'a [EntryKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        Box::pin(async move { self.each(keys.len(), self.read_entries(keys).await) })
    }

    fn put_entry<'a>(
        &'a self,
        key: &'a EntryKey,
        bytes: Bytes,
        blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            let stored = self.store_entry(key, bytes, blobs).await;
            stored.map_err(|error| self.redaction.error(error))
        })
    }

    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        Box::pin(async move { self.each(blobs.len(), self.look_for(blobs).await) })
    }

    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        Box::pin(async move { self.each(blobs.len(), self.deliver_blobs(blobs, sink).await) })
    }

    /// A server verifies its own digests; an alias that leads to other bytes is replaced when the blob is
    /// stored.
    fn forget<'a>(&'a self, blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.aliases.mark_wrong(*blob);
        Box::pin(std::future::ready(Ok(())))
    }

    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>> {
        Box::pin(async move { self.each(blobs.len(), self.store_blobs(blobs, source).await) })
    }
}

impl Reapi {
    /// The outcomes of `count` items, where one failure may concern all.
    fn each<T>(
        &self,
        count: usize,
        outcomes: Result<Vec<Result<T, RemoteError>>, RemoteError>,
    ) -> Vec<Result<T, RemoteError>> {
        let outcomes = outcomes.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect());
        self.redaction.each(outcomes)
    }

    async fn read_entries(
        &self,
        keys: &[EntryKey],
    ) -> Result<Vec<Result<Option<Bytes>, RemoteError>>, RemoteError> {
        let server = self.capabilities.server().await?;
        let function = server.capabilities.function;
        let names: Vec<Name> = keys.iter().map(|key| action::entry(function, key).name).collect();
        let found = concurrently(names.iter().map(|name| server.entry(name)).collect()).await;
        let stored: Vec<(usize, Name)> = found
            .iter()
            .enumerate()
            .filter_map(|(index, found)| Some((index, stored_name(found)?)))
            .collect();
        let collector = Collector::new(keys.len());
        let mut read = server.read(&stored, &collector).await;
        let bytes =
            |((index, found), bytes): ((usize, Result<Option<EntryBytes>, RemoteError>), Bytes)| match found?
            {
                None => Ok(None),
                Some(EntryBytes::Here(bytes)) => Ok(Some(bytes)),
                Some(EntryBytes::Stored(_)) => {
                    let is_there = read.remove(&index).unwrap_or(Ok(false))?;
                    Ok(is_there.then_some(bytes))
                }
            };
        Ok(found.into_iter().enumerate().zip(collector.into_bytes()).map(bytes).collect())
    }

    async fn store_entry(&self, key: &EntryKey, bytes: Bytes, blobs: &[BlobRef]) -> Result<(), RemoteError> {
        let server = self.capabilities.server().await?;
        server.check_may_store(Doing::FilingEntry)?;
        let mut outputs = Vec::new();
        for (blob, name) in blobs.iter().zip(self.locate_all(&server, blobs).await) {
            let gone = || RemoteError::new(RemoteFault::Transient, "filing an entry: its blob is gone again");
            outputs.push((*blob, name?.ok_or_else(gone)?));
        }
        let (result, stored) = server.result_of_entry(bytes, &outputs)?;
        let filing = action::entry(server.capabilities.function, key);
        let messages = filing.messages.iter().cloned().chain(stored);
        let messages = messages.map(|(name, bytes)| (name, Content::Bytes(bytes))).collect();
        for outcome in server.write(messages).await.into_values() {
            outcome?;
        }
        server.file(&filing, result, Doing::FilingEntry).await
    }

    async fn look_for(&self, blobs: &[BlobRef]) -> Result<Vec<Result<bool, RemoteError>>, RemoteError> {
        let server = self.capabilities.server().await?;
        let located = blobs.iter().zip(self.locate_all(&server, blobs).await);
        let names: Vec<Result<Option<Name>, RemoteError>> = located
            .map(|(blob, located)| match located {
                Ok(_) if self.aliases.is_marked_wrong(blob) => Ok(None),
                // An invalid alias counts as missing and is replaced.
                Err(error) if error.fault == RemoteFault::InvalidResponse => Ok(None),
                located => located,
            })
            .collect();
        let wanted: Vec<Name> = names.iter().flatten().flatten().copied().collect();
        let missing = server.missing(&wanted).await?;
        let is_there = |name: Option<Name>| name.is_some_and(|name| !missing.contains(&name));
        Ok(names.into_iter().map(|name| name.map(is_there)).collect())
    }

    async fn deliver_blobs(
        &self,
        blobs: &[BlobRef],
        sink: &dyn BlobSink,
    ) -> Result<Vec<Result<bool, RemoteError>>, RemoteError> {
        let server = self.capabilities.server().await?;
        let names = self.locate_all(&server, blobs).await;
        let name = |(index, name): (usize, &Result<Option<Name>, RemoteError>)| match name {
            Ok(Some(name)) => Some((index, *name)),
            _ => None,
        };
        let wanted: Vec<(usize, Name)> = names.iter().enumerate().filter_map(name).collect();
        let mut read = server.read(&wanted, sink).await;
        let outcome = |(index, (blob, name)): (usize, (&BlobRef, Result<Option<Name>, RemoteError>))| {
            if name?.is_none() {
                return Ok(false);
            }
            let is_there = read.remove(&index).unwrap_or(Ok(false));
            if matches!(is_there, Ok(false)) {
                self.aliases.forget(blob);
            }
            is_there
        };
        Ok(blobs.iter().zip(names).enumerate().map(outcome).collect())
    }

    async fn store_blobs(
        &self,
        blobs: &[BlobRef],
        source: &dyn BlobSource,
    ) -> Result<Vec<Result<(), RemoteError>>, RemoteError> {
        let server = self.capabilities.server().await?;
        let function = server.capabilities.function;
        let names = names(function, blobs, source).await;
        let named: Vec<Name> = names.iter().flatten().copied().collect();
        // The caller has found missing what has the same name here; a blob with another name may be there.
        let is_asked = function == Function::Blake3;
        let there = if is_asked { HashSet::new() } else { server.there(&named).await? };
        let mut uploads = HashMap::new();
        let mut filings = Vec::new();
        for (blob, name) in blobs.iter().zip(&names) {
            if let Ok(name) = name
                && !there.contains(name)
                && name.size <= server.capabilities.max_blob
            {
                uploads.insert(*name, Content::Blob(*blob, source));
            }
            let filing = match name_without_alias(function, blob) {
                None if name.is_ok() => Some(action::alias(function, blob)),
                _ => None,
            };
            let messages = filing.iter().flat_map(|filing| filing.messages.iter().cloned());
            uploads.extend(messages.map(|(name, bytes)| (name, Content::Bytes(bytes))));
            filings.push(filing);
        }
        if filings.iter().any(Option::is_some) {
            server.check_may_store(Doing::StoringBlobs)?;
        }
        let stored = server.write(uploads).await;
        let (server, stored) = (&server, &stored);
        let pairs = blobs.iter().zip(names).zip(filings);
        let outcomes = pairs.map(|((blob, name), filing)| async move {
            let name = name?;
            if name.size > server.capabilities.max_blob {
                let told = format!("the server takes no blob of {} bytes", name.size);
                return Err(Doing::StoringBlobs.unsupported(&told));
            }
            stored.get(&name).cloned().unwrap_or(Ok(()))?;
            let Some(filing) = filing else {
                self.aliases.uploaded(blob);
                return Ok(());
            };
            for (message, _) in &filing.messages {
                stored.get(message).cloned().unwrap_or(Ok(()))?;
            }
            server.file(&filing, results::result_of_alias(blob, &name), Doing::StoringBlobs).await?;
            self.aliases.stored(*blob, name);
            Ok(())
        });
        Ok(concurrently(outcomes.collect()).await)
    }

    /// The server's name of each blob; `None` for one that is certainly missing.
    async fn locate_all(&self, server: &Server, blobs: &[BlobRef]) -> Vec<Result<Option<Name>, RemoteError>> {
        concurrently(blobs.iter().map(|blob| self.locate(server, blob)).collect()).await
    }

    async fn locate(&self, server: &Server, blob: &BlobRef) -> Result<Option<Name>, RemoteError> {
        if blob.size > MAX_BLOB {
            let told = format!("a blob of {} bytes is none", blob.size);
            return Err(Doing::ReadingBlobs.invalid(&told));
        }
        let function = server.capabilities.function;
        if let Some(name) = name_without_alias(function, blob).or_else(|| self.aliases.get(blob)) {
            return Ok(Some(name));
        }
        let name = server.alias(&action::alias(function, blob).name, blob).await?;
        if let Some(name) = name {
            self.aliases.remember(*blob, name);
        }
        Ok(name)
    }
}

/// The server's name of a blob, where that follows from its BLAKE3.
fn name_without_alias(function: Function, blob: &BlobRef) -> Option<Name> {
    match function {
        Function::Blake3 => Some(Name { hash: blob.digest.0, size: blob.size }),
        Function::Sha256 if blob.digest == Digest::of(b"") && blob.size == 0 => Some(function.name(b"")),
        Function::Sha256 => None,
    }
}

/// The server's names of local blobs. Where its digests are not BLAKE3 the blobs are read for that.
async fn names(
    function: Function,
    blobs: &[BlobRef],
    source: &dyn BlobSource,
) -> Vec<Result<Name, RemoteError>> {
    let named: Vec<_> = blobs.iter().map(|blob| name_of(function, blob, source)).collect();
    stream::iter(named).buffered(HASHED_AT_ONCE).collect().await
}

async fn name_of(function: Function, blob: &BlobRef, source: &dyn BlobSource) -> Result<Name, RemoteError> {
    match name_without_alias(function, blob) {
        Some(name) => Ok(name),
        None => Content::Blob(*blob, source).name(function).await,
    }
}

fn stored_name(found: &Result<Option<EntryBytes>, RemoteError>) -> Option<Name> {
    match found {
        Ok(Some(EntryBytes::Stored(name))) => Some(*name),
        _ => None,
    }
}

/// The outcomes of concurrent calls, in order.
async fn concurrently<F: Future>(calls: Vec<F>) -> Vec<F::Output> {
    stream::iter(calls).buffered(MAX_CONCURRENT).collect().await
}
