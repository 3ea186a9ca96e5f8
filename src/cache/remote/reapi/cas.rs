//! ContentAddressableStorage: finding missing blobs, and small blobs in batches. Larger ones go by
//! ByteStream. Answers are matched by digest, in whatever order they come.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tonic::Code;

use super::content::Content;
use super::digest::Name;
use super::fault::Doing;
use super::server::Server;
use crate::cache::remote::delivery::Delivery;
use crate::cache::remote::{BlobSink, RemoteError};

/// Digests in one FindMissingBlobs request: well below a message's limit.
const MAX_DIGESTS: usize = 8192;

/// Messages and streams under way at once.
const MAX_CONCURRENT: usize = 8;

/// The outcome for each blob.
pub(super) type Outcomes<T> = HashMap<Name, Result<T, RemoteError>>;

impl Server {
    /// Those of `names` that are missing. The empty blob is always present by the protocol.
    pub(super) async fn missing(&self, names: &[Name]) -> Result<HashSet<Name>, RemoteError> {
        let wanted: Vec<Name> = self.without_empty(names).collect();
        let mut missing = HashSet::new();
        for names in wanted.chunks(MAX_DIGESTS) {
            let request = api::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: names.iter().map(|name| name.to_wire()).collect(),
                digest_function: self.capabilities.function.value(),
            };
            let answer = self.storage().find_missing_blobs(request).await;
            let answer = answer.map_err(|status| Doing::FindingMissing.failed(&status))?.into_inner();
            missing.extend(answer.missing_blob_digests.iter().filter_map(Name::from_wire));
        }
        Ok(missing)
    }

    /// Those of `names` that are there.
    pub(super) async fn there(&self, names: &[Name]) -> Result<HashSet<Name>, RemoteError> {
        let missing = self.missing(names).await?;
        Ok(names.iter().copied().filter(|name| !missing.contains(name)).collect())
    }

    /// Hands the bytes of each of `names` to `sink`, by its place, and returns whether it was there. Where
    /// that is true its whole length was handed over.
    pub(super) async fn read(
        &self,
        names: &[(usize, Name)],
        sink: &dyn BlobSink,
    ) -> HashMap<usize, Result<bool, RemoteError>> {
        let empty = self.empty();
        let wanted: Vec<(usize, Name)> = names.iter().copied().filter(|(_, name)| *name != empty).collect();
        let plan = self.plan(&wanted);
        let batches = plan.batches.into_iter().map(|names| self.read_batch(names, sink).boxed());
        let streams = plan.streams.into_iter().map(|(index, name)| {
            async move {
                let read = self.read_stream(&name, delivery(index, &name, sink)).await;
                HashMap::from([(index, read)])
            }
            .boxed()
        });
        let mut outcomes = together(batches.chain(streams)).await;
        outcomes.extend(names.iter().filter(|(_, name)| *name == empty).map(|(index, _)| (*index, Ok(true))));
        outcomes
    }

    /// Stores blobs that are missing, or too small to check.
    pub(super) async fn write(&self, contents: HashMap<Name, Content<'_>>) -> Outcomes<()> {
        let names: Vec<Name> = contents.keys().copied().collect();
        let wanted: Vec<(usize, Name)> = self.without_empty(&names).enumerate().collect();
        let plan = self.plan(&wanted);
        let contents = &contents;
        let batches = plan.batches.into_iter().map(|names| self.write_batch(names, contents).boxed());
        let streams = plan.streams.into_iter().filter_map(|(_, name)| {
            let content = contents.get(&name)?;
            Some(async move { HashMap::from([(name, self.write_stream(&name, content).await)]) }.boxed())
        });
        let mut outcomes = together(batches.chain(streams)).await;
        outcomes.insert(self.empty(), Ok(()));
        outcomes
    }

    async fn read_batch(
        &self,
        names: Vec<(usize, Name)>,
        sink: &dyn BlobSink,
    ) -> HashMap<usize, Result<bool, RemoteError>> {
        // Forged aliases may lead to one and the same blob.
        let distinct: HashSet<Name> = names.iter().map(|(_, name)| *name).collect();
        let request = api::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: distinct.iter().map(|name| name.to_wire()).collect(),
            acceptable_compressors: Vec::new(),
            digest_function: self.capabilities.function.value(),
        };
        let answer = match self.storage().batch_read_blobs(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = Doing::ReadingBlobs.failed(&status);
                return names.into_iter().map(|(index, _)| (index, Err(error.clone()))).collect();
            }
        };
        let mut told: HashMap<Name, Result<Option<Bytes>, RemoteError>> = HashMap::new();
        for response in answer.responses {
            if let Some(name) = response.digest.as_ref().and_then(Name::from_wire) {
                told.entry(name).or_insert_with(|| content_of(response));
            }
        }
        let mut outcomes = HashMap::new();
        for (index, name) in names {
            let outcome = match told.get(&name) {
                None => Err(Doing::ReadingBlobs.invalid("the answer leaves out a blob")),
                Some(Err(error)) => Err(error.clone()),
                Some(Ok(None)) => Ok(false),
                Some(Ok(Some(bytes))) => {
                    let mut delivery = delivery(index, &name, sink);
                    match delivery.write(bytes.clone()).await {
                        Ok(()) => delivery.complete().map(|()| true),
                        Err(error) => Err(error),
                    }
                }
            };
            outcomes.insert(index, outcome);
        }
        outcomes
    }

    async fn write_batch(
        &self,
        names: Vec<(usize, Name)>,
        contents: &HashMap<Name, Content<'_>>,
    ) -> Outcomes<()> {
        let mut outcomes = HashMap::new();
        let mut requests = Vec::with_capacity(names.len());
        for (_, name) in names {
            let Some(content) = contents.get(&name) else { continue };
            match content.whole().await {
                Ok(bytes) => requests.push((name, bytes)),
                Err(error) => {
                    outcomes.insert(name, Err(error));
                }
            }
        }
        if requests.is_empty() {
            return outcomes;
        }
        let names: Vec<Name> = requests.iter().map(|(name, _)| *name).collect();
        let requests = requests.into_iter().map(|(name, bytes)| api::batch_update_blobs_request::Request {
            digest: Some(name.to_wire()),
            data: bytes.into(),
            compressor: api::compressor::Value::Identity.into(),
        });
        let request = api::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: requests.collect(),
            digest_function: self.capabilities.function.value(),
        };
        let answer = match self.storage().batch_update_blobs(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = Doing::StoringBlobs.failed(&status);
                outcomes.extend(names.into_iter().map(|name| (name, Err(error.clone()))));
                return outcomes;
            }
        };
        let mut told = HashMap::new();
        for response in answer.responses {
            if let Some(name) = response.digest.as_ref().and_then(Name::from_wire) {
                told.entry(name).or_insert(response.status.unwrap_or_default());
            }
        }
        outcomes.extend(names.into_iter().map(|name| {
            let outcome = match told.get(&name) {
                None => Err(Doing::StoringBlobs.invalid("the answer leaves out a blob")),
                Some(status) => match Code::from(status.code) {
                    Code::Ok | Code::AlreadyExists => Ok(()),
                    _ => Err(Doing::StoringBlobs.failed_for_one(status)),
                },
            };
            (name, outcome)
        }));
        outcomes
    }

    fn plan(&self, names: &[(usize, Name)]) -> Plan {
        let mut plan = Plan::default();
        let (mut batch, mut total) = (Vec::new(), 0);
        for (index, name) in names {
            if !self.capabilities.fits_batch(name.size, 1) {
                plan.streams.push((*index, *name));
                continue;
            }
            if !self.capabilities.fits_batch(total + name.size, batch.len() + 1) {
                plan.batches.push(std::mem::take(&mut batch));
                total = 0;
            }
            batch.push((*index, *name));
            total += name.size;
        }
        if !batch.is_empty() {
            plan.batches.push(batch);
        }
        plan
    }

    pub(super) fn empty(&self) -> Name {
        self.capabilities.function.name(b"")
    }

    fn without_empty(&self, names: &[Name]) -> impl Iterator<Item = Name> {
        let empty = self.empty();
        names.iter().copied().filter(move |name| *name != empty)
    }
}

/// Which blobs go in batches, and which by themselves, each with its place in the request.
#[derive(Default)]
struct Plan {
    batches: Vec<Vec<(usize, Name)>>,
    streams: Vec<(usize, Name)>,
}

fn delivery<'s>(index: usize, name: &Name, sink: &'s dyn BlobSink) -> Delivery<'s> {
    Delivery::new(sink, index, format!("reading blobs: a blob of {} bytes", name.size), name.size)
}

/// What a batch brought of a blob; `None` of one that is not there.
fn content_of(response: api::batch_read_blobs_response::Response) -> Result<Option<Bytes>, RemoteError> {
    let status = response.status.unwrap_or_default();
    match Code::from(status.code) {
        Code::Ok => {}
        Code::NotFound => return Ok(None),
        _ => return Err(Doing::ReadingBlobs.failed_for_one(&status)),
    }
    if response.compressor != i32::from(api::compressor::Value::Identity) {
        return Err(Doing::ReadingBlobs.invalid("a blob came compressed, which was not requested"));
    }
    Ok(Some(response.data.into()))
}

/// Runs calls side by side and brings together what came of them.
async fn together<'a, K: Eq + Hash + Send + 'a, T: Send + 'a>(
    calls: impl Iterator<Item = BoxFuture<'a, HashMap<K, T>>>,
) -> HashMap<K, T> {
    let mut outcomes = HashMap::new();
    let mut answers = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CONCURRENT);
    while let Some(answer) = answers.next().await {
        outcomes.extend(answer);
    }
    outcomes
}
