//! ContentAddressableStorage: which blobs are missing, and small blobs by the batch. Larger ones go by
//! ByteStream. What a server answers is matched by digest, in whatever order it comes.

use std::collections::{HashMap, HashSet};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use tonic::Code;

use super::digest::Name;
use super::fault::Doing;
use super::server::Server;
use crate::cache::remote::RemoteError;

/// Digests in one question about what is missing: well below a message's limit.
const MOST_ASKED: usize = 8192;

/// Messages and streams under way at once.
const SIDE_BY_SIDE: usize = 8;

/// What came of each blob that was asked for.
pub(super) type Outcomes<T> = HashMap<Name, Result<T, RemoteError>>;

impl Server {
    /// Those of `names` that are not there. The empty blob always is: the protocol says so.
    pub(super) async fn missing(&self, names: &[Name]) -> Result<HashSet<Name>, RemoteError> {
        let asked: Vec<Name> = self.without_empty(names).collect();
        let mut missing = HashSet::new();
        for names in asked.chunks(MOST_ASKED) {
            let request = api::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: names.iter().map(|name| name.to_wire()).collect(),
                digest_function: self.abilities.function.value(),
            };
            let answer = self.storage().find_missing_blobs(request).await;
            let answer = answer.map_err(|status| Doing::AskingMissing.failed(&status))?.into_inner();
            missing.extend(answer.missing_blob_digests.iter().filter_map(Name::from_wire));
        }
        Ok(missing)
    }

    /// Those of `names` that are there.
    pub(super) async fn there(&self, names: &[Name]) -> Result<HashSet<Name>, RemoteError> {
        let missing = self.missing(names).await?;
        Ok(names.iter().copied().filter(|name| !missing.contains(name)).collect())
    }

    /// The bytes of each of `names`, of its length; `None` of one that is not there.
    pub(super) async fn read(&self, names: &[Name]) -> Outcomes<Option<Bytes>> {
        let asked: HashSet<Name> = self.without_empty(names).collect();
        let asked: Vec<Name> = asked.into_iter().collect();
        let plan = self.plan(&asked);
        let batches = plan.batches.into_iter().map(|names| self.read_batch(names).boxed());
        let streams = plan
            .streams
            .into_iter()
            .map(|name| async move { HashMap::from([(name, self.read_stream(&name).await)]) }.boxed());
        let mut outcomes = together(batches.chain(streams)).await;
        outcomes.insert(self.empty(), Ok(Some(Bytes::new())));
        outcomes
    }

    /// Stores blobs that are missing, or too small to ask.
    pub(super) async fn write(&self, blobs: HashMap<Name, Bytes>) -> Outcomes<()> {
        let names: Vec<Name> = blobs.keys().copied().collect();
        let asked: Vec<Name> = self.without_empty(&names).collect();
        let plan = self.plan(&asked);
        let blobs = &blobs;
        let batches = plan.batches.into_iter().map(|names| self.write_batch(names, blobs).boxed());
        let streams = plan.streams.into_iter().map(|name| {
            let bytes = blobs.get(&name).cloned().unwrap_or_default();
            async move { HashMap::from([(name, self.write_stream(&name, bytes).await)]) }.boxed()
        });
        let mut outcomes = together(batches.chain(streams)).await;
        outcomes.insert(self.empty(), Ok(()));
        outcomes
    }

    async fn read_batch(&self, names: Vec<Name>) -> Outcomes<Option<Bytes>> {
        let request = api::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: names.iter().map(|name| name.to_wire()).collect(),
            acceptable_compressors: Vec::new(),
            digest_function: self.abilities.function.value(),
        };
        let answer = match self.storage().batch_read_blobs(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return all(&names, &Doing::ReadingBlobs.failed(&status)),
        };
        let mut told = HashMap::new();
        for response in answer.responses {
            if let Some(name) = response.digest.as_ref().and_then(Name::from_wire) {
                told.entry(name).or_insert(response);
            }
        }
        let outcome = |name: Name| (name, read_outcome(&name, told.remove(&name)));
        names.into_iter().map(outcome).collect()
    }

    async fn write_batch(&self, names: Vec<Name>, blobs: &HashMap<Name, Bytes>) -> Outcomes<()> {
        let requests = names.iter().map(|name| api::batch_update_blobs_request::Request {
            digest: Some(name.to_wire()),
            data: blobs.get(name).map(|bytes| bytes.to_vec()).unwrap_or_default(),
            compressor: api::compressor::Value::Identity.into(),
        });
        let request = api::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: requests.collect(),
            digest_function: self.abilities.function.value(),
        };
        let answer = match self.storage().batch_update_blobs(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return all(&names, &Doing::StoringBlobs.failed(&status)),
        };
        let mut told = HashMap::new();
        for response in answer.responses {
            if let Some(name) = response.digest.as_ref().and_then(Name::from_wire) {
                told.entry(name).or_insert(response.status.unwrap_or_default());
            }
        }
        let outcome = |name: Name| {
            let outcome = match told.get(&name) {
                None => Err(Doing::StoringBlobs.nonsense("the server did not say what came of a blob")),
                Some(status) => match Code::from(status.code) {
                    Code::Ok | Code::AlreadyExists => Ok(()),
                    _ => Err(Doing::StoringBlobs.failed_for_one(status)),
                },
            };
            (name, outcome)
        };
        names.into_iter().map(outcome).collect()
    }

    fn plan(&self, names: &[Name]) -> Plan {
        let mut plan = Plan::default();
        let (mut batch, mut total) = (Vec::new(), 0);
        for name in names {
            if !self.abilities.fits_batch(name.size, 1) {
                plan.streams.push(*name);
                continue;
            }
            if !self.abilities.fits_batch(total + name.size, batch.len() + 1) {
                plan.batches.push(std::mem::take(&mut batch));
                total = 0;
            }
            batch.push(*name);
            total += name.size;
        }
        if !batch.is_empty() {
            plan.batches.push(batch);
        }
        plan
    }

    pub(super) fn empty(&self) -> Name {
        self.abilities.function.name(b"")
    }

    fn without_empty(&self, names: &[Name]) -> impl Iterator<Item = Name> {
        let empty = self.empty();
        names.iter().copied().filter(move |name| *name != empty)
    }
}

/// Which blobs go together, and which by themselves.
#[derive(Default)]
struct Plan {
    batches: Vec<Vec<Name>>,
    streams: Vec<Name>,
}

fn read_outcome(
    name: &Name,
    told: Option<api::batch_read_blobs_response::Response>,
) -> Result<Option<Bytes>, RemoteError> {
    let Some(response) = told else {
        return Err(Doing::ReadingBlobs.nonsense("the server did not say what is with a blob"));
    };
    let status = response.status.unwrap_or_default();
    match Code::from(status.code) {
        Code::Ok => {}
        Code::NotFound => return Ok(None),
        _ => return Err(Doing::ReadingBlobs.failed_for_one(&status)),
    }
    if response.compressor != i32::from(api::compressor::Value::Identity) {
        return Err(Doing::ReadingBlobs.nonsense("a blob came compressed, and nobody asked for that"));
    }
    if response.data.len() as u64 != name.size {
        let told = format!("a blob of {} bytes has {}", name.size, response.data.len());
        return Err(Doing::ReadingBlobs.nonsense(&told));
    }
    Ok(Some(response.data.into()))
}

fn all<T>(names: &[Name], error: &RemoteError) -> Outcomes<T> {
    names.iter().map(|name| (*name, Err(error.clone()))).collect()
}

/// Runs calls side by side and brings together what came of them.
async fn together<'a, T: Send + 'a>(
    calls: impl Iterator<Item = futures_util::future::BoxFuture<'a, Outcomes<T>>>,
) -> Outcomes<T> {
    let mut outcomes = HashMap::new();
    let mut answers = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(SIDE_BY_SIDE);
    while let Some(answer) = answers.next().await {
        outcomes.extend(answer);
    }
    outcomes
}
