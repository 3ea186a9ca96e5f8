//! A server's capabilities out of its answer to GetCapabilities: digest function and limits. Pure; absurd
//! limits are bounded here.

use bazel_remote_apis::build::bazel::remote::execution::v2::ServerCapabilities;

use super::digest::Function;
use crate::cache::remote::{MAX_BLOB, RemoteError, RemoteFault};

/// The message size that gRPC servers and clients accept by default.
const USUAL_MESSAGE: u64 = 4 << 20;

/// Bytes of blobs in one message at most, whatever a server offers.
const MAX_BATCH: u64 = 16 << 20;

/// Bytes of a message besides its blobs: the instance's name, some fields.
const BESIDES: u64 = 4 << 10;

/// Bytes of a blob's digest, status and framing in a message.
const BESIDES_BLOB: u64 = 160;

/// Bytes that answers may have beyond the blobs, for error texts foremost.
const SLACK: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub function: Function,
    /// Whether ActionCache may be written to.
    pub accepts_entries: bool,
    /// Bytes of the largest blob that it takes.
    pub max_blob: u64,
    max_batch: u64,
}

impl Capabilities {
    /// The digest function is that of the server's execution, since some servers list others that they cannot
    /// verify; else BLAKE3, else SHA-256, by what its cache lists.
    pub(super) fn of(server: &ServerCapabilities) -> Result<Capabilities, RemoteError> {
        let Some(cache) = &server.cache_capabilities else {
            return Err(refused("the server has no cache"));
        };
        let set_to = server
            .execution_capabilities
            .as_ref()
            .and_then(|execution| Function::from_value(execution.digest_function));
        let listed = |function: Function| cache.digest_functions.contains(&function.value());
        let function = set_to
            .or_else(|| [Function::Blake3, Function::Sha256].into_iter().find(|f| listed(*f)))
            .ok_or_else(|| refused("the server knows neither BLAKE3 nor SHA-256"))?;
        let max_blob = positive(cache.max_cas_blob_size_bytes).unwrap_or(MAX_BLOB).min(MAX_BLOB);
        let max_batch = positive(cache.max_batch_total_size_bytes).unwrap_or(USUAL_MESSAGE);
        let updates = &cache.action_cache_update_capabilities;
        Ok(Capabilities {
            function,
            accepts_entries: updates.as_ref().is_none_or(|updates| updates.update_enabled),
            max_blob,
            max_batch: max_batch.min(MAX_BATCH),
        })
    }

    /// Whether blobs of `total` bytes together go into one message.
    pub(super) fn fits_batch(&self, total: u64, blobs: usize) -> bool {
        let message = blobs as u64 * BESIDES_BLOB + BESIDES + total;
        total <= self.max_batch && message <= self.max_batch.max(USUAL_MESSAGE)
    }

    /// Bytes of the largest message that is taken from the server.
    pub(super) fn max_message(&self) -> usize {
        (self.max_batch.max(USUAL_MESSAGE) + SLACK) as usize
    }
}

/// A limit; zero is how the protocol says that there is none.
fn positive(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

fn refused(message: &str) -> RemoteError {
    RemoteError::new(RemoteFault::Refused, message)
}

#[cfg(test)]
mod tests {
    use bazel_remote_apis::build::bazel::remote::execution::v2::digest_function::Value;
    use bazel_remote_apis::build::bazel::remote::execution::v2::{CacheCapabilities, ExecutionCapabilities};

    use super::*;

    fn server(listed: &[Value], execution: Option<Value>, batch: i64) -> ServerCapabilities {
        ServerCapabilities {
            cache_capabilities: Some(CacheCapabilities {
                digest_functions: listed.iter().map(|value| i32::from(*value)).collect(),
                max_batch_total_size_bytes: batch,
                ..CacheCapabilities::default()
            }),
            execution_capabilities: execution.map(|value| ExecutionCapabilities {
                digest_function: value.into(),
                ..ExecutionCapabilities::default()
            }),
            ..ServerCapabilities::default()
        }
    }

    #[test]
    fn the_function_is_the_servers() {
        let function = |listed: &[Value], execution| {
            Capabilities::of(&server(listed, execution, 0)).map(|capabilities| capabilities.function).ok()
        };
        let both = [Value::Sha256, Value::Blake3];
        assert_eq!(function(&both, None), Some(Function::Blake3));
        assert_eq!(function(&both, Some(Value::Sha256)), Some(Function::Sha256));
        assert_eq!(function(&both, Some(Value::Blake3)), Some(Function::Blake3));
        assert_eq!(function(&both, Some(Value::Unknown)), Some(Function::Blake3));
        assert_eq!(function(&[Value::Sha1, Value::Sha256], Some(Value::Sha1)), Some(Function::Sha256));
        assert_eq!(function(&[Value::Md5, Value::Sha1], None), None);
        assert!(Capabilities::of(&ServerCapabilities::default()).is_err());
    }

    #[test]
    fn batches_keep_to_the_limit_with_what_frames_them() {
        let capabilities = |batch| Capabilities::of(&server(&[Value::Sha256], None, batch)).unwrap();
        let usual = capabilities(0);
        assert!(usual.fits_batch((4 << 20) - 10_000, 1) && !usual.fits_batch(4 << 20, 1));
        assert!(!usual.fits_batch((4 << 20) - 10_000, 100));
        let tiny = capabilities(1000);
        assert!(tiny.fits_batch(1000, 10) && !tiny.fits_batch(1001, 1));
        let absurd = capabilities(i64::MAX);
        assert!(!absurd.fits_batch(MAX_BATCH + 1, 1) && absurd.max_message() < 18 << 20);
        assert_eq!(capabilities(-5), usual);
    }
}
