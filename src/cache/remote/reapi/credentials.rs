//! Credentials of the client and roots of trust for the server: a bearer token and PEM files, named by
//! environment variables. They never appear in a message.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::cache::remote::{RemoteError, RemoteFault};

const TOKEN: &str = "RIVET_REMOTE_TOKEN";
const CA: &str = "RIVET_REMOTE_CA";
const CERT: &str = "RIVET_REMOTE_CERT";
const KEY: &str = "RIVET_REMOTE_KEY";

/// The variables with client credentials: the token, which is sent over any channel, and those that TLS
/// needs.
pub(super) const SECRETS: [&str; 3] = [TOKEN, CERT, KEY];

/// The value of an environment variable; one that is set to nothing counts as not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The token, to be kept out of messages.
pub(super) fn token() -> Option<String> {
    variable(TOKEN)?.to_str().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// `Bearer …`, out of `RIVET_REMOTE_TOKEN`. It is marked so that no log of headers shows it.
pub(super) fn authorization() -> Result<Option<MetadataValue<Ascii>>, RemoteError> {
    let Some(token) = variable(TOKEN) else {
        return Ok(None);
    };
    let mut value = token
        .to_str()
        .and_then(|token| format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>().ok())
        .ok_or_else(|| refused(format!("{TOKEN} has characters that no token has")))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The system's roots, or those of `RIVET_REMOTE_CA` alone; and the client certificate, for servers that
/// require one (`RIVET_REMOTE_CERT`, `RIVET_REMOTE_KEY`).
pub(super) fn tls() -> Result<ClientTlsConfig, RemoteError> {
    let config = match variable(CA) {
        Some(path) => {
            let pem = pem(CA, path.as_ref(), "CERTIFICATE-----")?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (variable(CERT), variable(KEY)) {
        (Some(cert), Some(key)) => {
            let cert = pem(CERT, cert.as_ref(), "CERTIFICATE-----")?;
            let key = pem(KEY, key.as_ref(), "PRIVATE KEY-----")?;
            Ok(config.identity(Identity::from_pem(cert, key)))
        }
        (None, None) => Ok(config),
        (Some(_), None) => Err(refused(format!("{CERT} is set, and {KEY} is not"))),
        (None, Some(_)) => Err(refused(format!("{KEY} is set, and {CERT} is not"))),
    }
}

/// A PEM file's bytes. What has no section of the right kind is told here: as roots, it would be
/// taken for none at all.
fn pem(name: &str, path: &Path, section: &str) -> Result<Vec<u8>, RemoteError> {
    let bytes = fs::read(path)
        .map_err(|error| refused(format!("cannot read {name} ({}): {error}", path.display())))?;
    let has_section = bytes.windows(section.len()).any(|window| window == section.as_bytes());
    if !has_section {
        let kind = section.trim_end_matches('-').to_lowercase();
        return Err(refused(format!("{name} ({}) has no {kind} in PEM", path.display())));
    }
    Ok(bytes)
}

fn refused(message: String) -> RemoteError {
    RemoteError::new(RemoteFault::Refused, message)
}
