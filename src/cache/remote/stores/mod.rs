//! Remotes that keep bytes by name: object stores, WebDAV and shared folders through OpenDAL, and Redis
//! by its own client. The layout is the same in each, and that of the local cache but for its folder's
//! names; whoever can write to one can file anything in it, so nothing here is believed.
//!
//! ```text
//! <prefix>/v2/
//!     entries/ab/abcd…    an action entry, named by the action key
//!     blobs/ab/abcd…      a blob, named by the BLAKE3 of its bytes
//!     tmp/                in a shared folder: files being written
//! ```

mod credentials;
mod fault;
mod folder;
mod parameters;
mod redis;
mod services;
mod store;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use super::{ActionKey, BlobRef, Remote, RemoteError, RemoteFault, RemoteUrl};
use credentials::Credentials;
use folder::Folder;
use redis::Redis;
use store::{Place, Store};

/// The layout's version; the local cache has the same.
const LAYOUT: &str = "v2";

/// Opens the store at `url`, whose scheme is one of those that are dispatched here.
pub(super) fn open(url: &RemoteUrl, patience: Duration) -> Result<Arc<dyn Remote>, RemoteError> {
    match url.scheme() {
        "redis" | "rediss" => Ok(Arc::new(Redis::open(url, patience, &Credentials::from_environment()?)?)),
        "fs" => Ok(Arc::new(Store::new(url, Place::Folder(Folder::at(url)?)))),
        _ => {
            let operator = services::operator(url, patience, Credentials::from_environment)?;
            Ok(Arc::new(Store::new(url, Place::Service(operator))))
        }
    }
}

/// The folder of a remote that all of its names begin with, without slashes at its ends.
fn root(url: &RemoteUrl) -> Result<String, RemoteError> {
    let prefix = url.path();
    let is_odd = |part: &str| matches!(part, "." | "..") || part.contains(char::is_control);
    // What is no UTF-8 was replaced by U+FFFD, and would name another folder.
    if prefix.contains('\u{fffd}') || prefix.split('/').any(is_odd) {
        return Err(refused(url, "its path must be UTF-8, without `.`, `..` and control characters"));
    }
    Ok(if prefix.is_empty() { LAYOUT.to_owned() } else { format!("{prefix}/{LAYOUT}") })
}

fn entry_name(key: &ActionKey) -> String {
    name("entries", &key.to_string())
}

fn blob_name(blob: &BlobRef) -> String {
    name("blobs", &blob.digest.to_string())
}

fn name(part: &str, hex: &str) -> String {
    format!("{part}/{}/{hex}", &hex[..2])
}

fn refused(url: &RemoteUrl, why: impl std::fmt::Display) -> RemoteError {
    RemoteError::new(RemoteFault::Refused, format!("{url}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Digest;

    #[test]
    fn names_are_those_of_the_local_cache() {
        let digest = Digest::of(b"x");
        let hex = digest.to_string();
        assert_eq!(entry_name(&ActionKey(digest)), format!("entries/{}/{hex}", &hex[..2]));
        assert_eq!(blob_name(&BlobRef { digest, size: 1 }), format!("blobs/{}/{hex}", &hex[..2]));
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        let root = |text: &str| root(&text.parse().unwrap());
        assert_eq!(root("s3://bucket").unwrap(), "v2");
        assert_eq!(root("s3://bucket/a/b/").unwrap(), "a/b/v2");
        assert_eq!(root("fs:///mnt/../team").unwrap(), "team/v2");
        for text in ["s3://bucket/a%2F..%2Fb", "fs:///mnt/%FF", "redis://host/a%0Db"] {
            assert_eq!(root(text).unwrap_err().fault, RemoteFault::Refused, "{text}");
        }
    }
}
