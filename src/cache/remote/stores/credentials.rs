//! Credentials of services that have no environment variables of their own. They are never shown: the
//! type has no `Debug`, and no message repeats a value.

use super::{NamedBy, RemoteError, RemoteUrl};
use crate::cache::remote::secrets::{may_go_to, variable};

const USER: &str = "RIVET_REMOTE_USER";
const PASSWORD: &str = "RIVET_REMOTE_PASSWORD";
const TOKEN: &str = "RIVET_REMOTE_TOKEN";

#[derive(Default)]
pub(super) struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
}

impl Credentials {
    /// Those for the server at `url`, if they may go there.
    pub fn from_environment(url: &RemoteUrl, named_by: NamedBy) -> Result<Credentials, RemoteError> {
        may_go_to(url, named_by, &[USER, PASSWORD, TOKEN])?;
        Ok(Credentials { user: variable(USER)?, password: variable(PASSWORD)?, token: variable(TOKEN)? })
    }

    /// Whether there is something that lets its holder in.
    pub fn has_secret(&self) -> bool {
        self.password.is_some() || self.token.is_some()
    }
}
