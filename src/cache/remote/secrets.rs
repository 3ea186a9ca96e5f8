//! Which servers the user's secrets are sent to. A spec may come from someone else's repository: a server
//! that only the spec names is not sent the user's environment for another server, and secrets are never sent
//! unencrypted.

use std::env::{self, VarError};
use std::net::IpAddr;

use super::{NamedBy, RemoteError, RemoteFault, RemoteUrl};

/// The variable that names the servers which the `RIVET_REMOTE_…` credentials belong to.
const HOSTS: &str = "RIVET_REMOTE_HOST";

/// An error where one of these `variables` is set, and would go to a host that only the spec names and
/// the user has not (`RIVET_REMOTE_HOST`: hosts, or hosts with ports, with commas between them).
pub(super) fn may_go_to(
    url: &RemoteUrl,
    named_by: NamedBy,
    variables: &[&'static str],
) -> Result<(), RemoteError> {
    if named_by == NamedBy::User {
        return Ok(());
    }
    let mut set = None;
    for name in variables {
        if variable(name)?.is_some() {
            set = set.or(Some(name));
        }
    }
    let Some(set) = set else { return Ok(()) };
    if variable(HOSTS)?.is_some_and(|hosts| names(&hosts, url)) {
        return Ok(());
    }
    let host = url.host().unwrap_or_default();
    let told = format!(
        "{set} is set, and only the spec names this server: if it is to have that, set {HOSTS}={host}, \
         or name the remote by --remote-cache or RIVET_REMOTE_CACHE"
    );
    Err(RemoteError::new(RemoteFault::Denied, told))
}

/// Whether a list of hosts has that of `url`.
fn names(hosts: &str, url: &RemoteUrl) -> bool {
    let Some(host) = url.host() else { return false };
    let with_port = url.port_or_usual().map(|port| format!("{host}:{port}"));
    hosts.split(',').map(str::trim).any(|named| {
        named.eq_ignore_ascii_case(host)
            || with_port.as_ref().is_some_and(|host| named.eq_ignore_ascii_case(host))
    })
}

/// The value of an environment variable; an empty one counts as unset.
pub(super) fn variable(name: &str) -> Result<Option<String>, RemoteError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(RemoteError::new(
            RemoteFault::Denied,
            format!("the environment variable {name} is not UTF-8"),
        )),
    }
}

/// Whether a URL's host is this machine (RFC 6761 6.3 for the name).
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_this_machine() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[::]", "0.0.0.0", "cache", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_host_is_named_with_any_port_or_with_its_own() {
        let is_named = |hosts: &str, url: &str| names(hosts, &url.parse().unwrap());
        for hosts in ["cache.example", "other, Cache.Example", "cache.example:443", "x,cache.example:443"] {
            assert!(is_named(hosts, "webdavs://cache.example/x"), "{hosts}");
        }
        assert!(is_named("cache.example:6379", "redis://cache.example/"));
        assert!(is_named("[::1]:81", "grpc://[::1]:81/x"));
        for hosts in ["cache.example:80", "example", "cache.example.org", "", ",", "https://cache.example"] {
            assert!(!is_named(hosts, "webdavs://cache.example/x"), "{hosts}");
        }
    }
}
