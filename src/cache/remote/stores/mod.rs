//! Remotes that store bytes by name: object stores, WebDAV and shared folders through OpenDAL, and Redis by
//! its own client. The layout is the same in each, and that of the local cache. Anyone who can write to one
//! can store anything in it, so nothing read from it is trusted.
//!
//! ```text
//! <prefix>/v3/
//!     entries/ab/abcd…    a cache entry, named by the entry key
//!     blobs/ab/abcd…      a blob, named by the BLAKE3 of its bytes
//!     tmp/                in a shared folder: files being written
//! ```

mod credentials;
mod fault;
mod folder;
mod parameters;
mod redis;
mod services;
mod single_object;
mod store;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::secrets::is_loopback;
use super::{BlobRef, EntryKey, NamedBy, Remote, RemoteError, RemoteFault, RemoteUrl};
use crate::cache::{Digest, LAYOUT};
use credentials::Credentials;
use folder::Folder;
use redis::Redis;
use single_object::SingleObjectAdapter;
use store::{Backend, OpendalStore};

/// Opens the store at `url`, whose scheme is one of those that are dispatched here.
pub(super) fn open(
    url: &RemoteUrl,
    named_by: NamedBy,
    connect_timeout: Duration,
) -> Result<Arc<dyn Remote>, RemoteError> {
    match url.scheme() {
        "redis" | "rediss" => {
            let credentials = Credentials::from_environment(url, named_by)?;
            let is_safe = url.scheme() == "rediss" || is_loopback(url.host().unwrap_or_default());
            if credentials.has_secret() && named_by == NamedBy::Spec && !is_safe {
                return Err(refused(
                    "RIVET_REMOTE_PASSWORD or RIVET_REMOTE_TOKEN would go unencrypted to another machine, and \
                     only the spec names it: use rediss://, or name it by --remote-cache or RIVET_REMOTE_CACHE",
                ));
            }
            Ok(Arc::new(SingleObjectAdapter(Redis::open(url, connect_timeout, &credentials)?)))
        }
        "fs" => {
            Ok(Arc::new(SingleObjectAdapter(OpendalStore::new(Backend::Folder(Box::new(Folder::at(url)?))))))
        }
        _ => {
            let operator = services::operator(url, named_by, connect_timeout)?;
            Ok(Arc::new(SingleObjectAdapter(OpendalStore::new(Backend::Service(operator)))))
        }
    }
}

/// The prefix of all names in a remote, without slashes at its ends.
fn root(url: &RemoteUrl) -> Result<String, RemoteError> {
    let prefix = url.path();
    let is_odd = |part: &str| matches!(part, "." | "..") || part.contains(char::is_control);
    // Invalid UTF-8 was replaced by U+FFFD, and would name another folder.
    if prefix.contains('\u{fffd}') || prefix.split('/').any(is_odd) {
        return Err(refused("its path must be UTF-8, without `.`, `..` and control characters"));
    }
    Ok(if prefix.is_empty() { LAYOUT.to_owned() } else { format!("{prefix}/{LAYOUT}") })
}

/// The key of an entry or a blob. Shown as in messages: "the entry 17762fddd969".
struct ObjectKey {
    kind: Kind,
    /// The folder of its kind.
    part: &'static str,
    digest: Digest,
    /// Its name under the root.
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Entry,
    Blob,
}

impl ObjectKey {
    fn entry(key: &EntryKey) -> ObjectKey {
        ObjectKey::new(Kind::Entry, "entries", key.0)
    }

    fn blob(blob: &BlobRef) -> ObjectKey {
        ObjectKey::new(Kind::Blob, "blobs", blob.digest)
    }

    fn new(kind: Kind, part: &'static str, digest: Digest) -> ObjectKey {
        let hex = digest.to_string();
        ObjectKey { kind, part, digest, name: format!("{part}/{}/{hex}", &hex[..2]) }
    }

    /// Its shard within the folder of its kind.
    fn shard(&self) -> String {
        self.digest.to_string()[..2].to_owned()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Entry => "entry",
            Kind::Blob => "blob",
        };
        write!(f, "the {what} {}", self.digest.short())
    }
}

fn refused(why: impl fmt::Display) -> RemoteError {
    RemoteError::new(RemoteFault::Refused, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_local_cache() {
        let digest = Digest::of(b"x");
        let hex = digest.to_string();
        let (entry, blob) =
            (ObjectKey::entry(&EntryKey(digest)), ObjectKey::blob(&BlobRef { digest, size: 1 }));
        assert_eq!(entry.name, format!("entries/{}/{hex}", &hex[..2]));
        assert_eq!(blob.name, format!("blobs/{}/{hex}", &hex[..2]));
        assert_eq!(blob.to_string(), format!("the blob {}", &hex[..12]));
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        let root = |text: &str| root(&text.parse().unwrap());
        assert_eq!(root("s3://bucket").unwrap(), "v3");
        assert_eq!(root("s3://bucket/a/b/").unwrap(), "a/b/v3");
        assert_eq!(root("fs:///mnt/../team").unwrap(), "team/v3");
        for text in ["s3://bucket/a%2F..%2Fb", "fs:///mnt/%FF", "redis://host/a%0Db"] {
            assert_eq!(root(text).unwrap_err().fault, RemoteFault::Refused, "{text}");
        }
    }
}
