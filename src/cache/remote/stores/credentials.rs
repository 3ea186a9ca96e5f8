//! Credentials of services that have no environment variables of their own. They are never shown: the
//! type has no `Debug`, and no message repeats a value.

use std::env::{self, VarError};

use super::{RemoteError, RemoteFault};

#[derive(Default)]
pub(super) struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
}

impl Credentials {
    pub fn from_environment() -> Result<Credentials, RemoteError> {
        Ok(Credentials {
            user: variable("RIVET_REMOTE_USER")?,
            password: variable("RIVET_REMOTE_PASSWORD")?,
            token: variable("RIVET_REMOTE_TOKEN")?,
        })
    }
}

/// What a variable of the environment says; an empty one says nothing.
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
