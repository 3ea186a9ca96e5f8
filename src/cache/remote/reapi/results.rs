//! ActionCache: results by the digest of their action. Knows what is in rivet's results, and takes
//! nothing else from a server.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use tonic::Code;

use super::action::Filing;
use super::digest::Name;
use super::fault::Doing;
use super::server::Server;
use crate::cache::remote::{MAX_ENTRY, RemoteError};
use crate::cache::{BlobRef, Digest};

/// Bytes of an entry that go within its result; larger ones are blobs.
const MAX_INLINE: usize = 512 << 10;

/// Blobs that a result may name: with so many, its message is within what gRPC's servers take.
const MAX_OUTPUTS: usize = 20_000;

/// Where the bytes of an entry are.
pub(super) enum EntryBytes {
    Here(Bytes),
    Stored(Name),
}

impl Server {
    /// The entry filed under an action. The name is of [`MAX_ENTRY`] bytes at most, like the bytes.
    pub(super) async fn entry(&self, action: &Name) -> Result<Option<EntryBytes>, RemoteError> {
        let Some(result) = self.result(action, Doing::ReadingEntry).await? else {
            return Ok(None);
        };
        let bounded = |size: u64| match size {
            ..=MAX_ENTRY => Ok(()),
            _ => Err(Doing::ReadingEntry.invalid(&format!("an entry of {size} bytes is none"))),
        };
        if !result.stdout_raw.is_empty() {
            bounded(result.stdout_raw.len() as u64)?;
            return Ok(Some(EntryBytes::Here(result.stdout_raw.into())));
        }
        let stored = result.stdout_digest.as_ref().and_then(Name::from_wire);
        let name = stored.ok_or_else(|| Doing::ReadingEntry.invalid("an entry has no bytes"))?;
        bounded(name.size)?;
        Ok(Some(EntryBytes::Stored(name)))
    }

    /// The server's name of a blob by its alias.
    pub(super) async fn alias(&self, action: &Name, blob: &BlobRef) -> Result<Option<Name>, RemoteError> {
        let Some(result) = self.result(action, Doing::FindingMissing).await? else {
            return Ok(None);
        };
        let told = result.output_files.first().and_then(|file| file.digest.as_ref());
        match told.and_then(Name::from_wire) {
            Some(name) if name.size == blob.size => Ok(Some(name)),
            Some(name) => {
                let told = format!("a blob of {} bytes is said to have {}", blob.size, name.size);
                Err(Doing::FindingMissing.invalid(&told))
            }
            None => Err(Doing::FindingMissing.invalid("what a blob is called is no digest")),
        }
    }

    async fn result(&self, action: &Name, doing: Doing) -> Result<Option<api::ActionResult>, RemoteError> {
        let request = api::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.to_wire()),
            inline_stdout: true,
            digest_function: self.capabilities.function.value(),
            ..api::GetActionResultRequest::default()
        };
        match self.actions().get_action_result(request).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(doing.failed(&status)),
        }
    }

    /// An error where the server accepts no results from this client.
    pub(super) fn check_may_store(&self, doing: Doing) -> Result<(), RemoteError> {
        if self.capabilities.accepts_entries {
            Ok(())
        } else {
            Err(doing.denied("the server is read-only for this client"))
        }
    }

    /// Files a result. The messages of its action, and what it names, are stored.
    pub(super) async fn file(
        &self,
        filing: &Filing,
        result: api::ActionResult,
        doing: Doing,
    ) -> Result<(), RemoteError> {
        let request = api::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(filing.name.to_wire()),
            action_result: Some(result),
            digest_function: self.capabilities.function.value(),
            ..api::UpdateActionResultRequest::default()
        };
        match self.actions().update_action_result(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(doing.failed(&status)),
        }
    }

    /// An entry as a result, and what has to be stored for it. It names the blobs, by the names that
    /// the server has for them, so that a server that drops results without their outputs can.
    pub(super) fn result_of_entry(
        &self,
        bytes: Bytes,
        blobs: &[(BlobRef, Name)],
    ) -> Result<(api::ActionResult, Option<(Name, Bytes)>), RemoteError> {
        if bytes.is_empty() || bytes.len() as u64 > MAX_ENTRY {
            let told = format!("an entry of {} bytes is none", bytes.len());
            return Err(Doing::FilingEntry.unsupported(&told));
        }
        if blobs.len() > MAX_OUTPUTS {
            let told = format!("an entry names {} blobs, more than {MAX_OUTPUTS}", blobs.len());
            return Err(Doing::FilingEntry.unsupported(&told));
        }
        let mut result = api::ActionResult {
            output_files: blobs.iter().map(|(blob, name)| output(&blob.digest, name)).collect(),
            ..api::ActionResult::default()
        };
        if bytes.len() <= MAX_INLINE {
            result.stdout_raw = bytes.to_vec();
            return Ok((result, None));
        }
        let name = self.capabilities.function.name(&bytes);
        result.stdout_digest = Some(name.to_wire());
        Ok((result, Some((name, bytes))))
    }
}

/// A blob's alias as a result.
pub(super) fn result_of_alias(blob: &BlobRef, name: &Name) -> api::ActionResult {
    api::ActionResult { output_files: vec![output(&blob.digest, name)], ..api::ActionResult::default() }
}

fn output(digest: &Digest, name: &Name) -> api::OutputFile {
    api::OutputFile { path: digest.to_string(), digest: Some(name.to_wire()), ..api::OutputFile::default() }
}
