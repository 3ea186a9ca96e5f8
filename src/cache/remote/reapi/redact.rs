//! Keeps the token out of messages: a server may repeat what it was sent, also cut off in its middle.

use crate::cache::remote::RemoteError;

/// Characters of a token's beginning that at a message's end are taken for it.
const FEWEST: usize = 4;

/// The secret that must not appear.
pub(super) struct Redaction(Option<String>);

impl Redaction {
    pub(super) fn of(token: Option<String>) -> Redaction {
        Redaction(token)
    }

    pub(super) fn error(&self, mut error: RemoteError) -> RemoteError {
        let Some(token) = &self.0 else { return error };
        error.message = error.message.replace(token.as_str(), "…");
        let beginnings = token.char_indices().map(|(at, _)| &token[..at]).skip(FEWEST);
        let cut = beginnings.filter(|beginning| error.message.ends_with(beginning)).last();
        if let Some(cut) = cut {
            error.message.truncate(error.message.len() - cut.len());
            error.message.push('…');
        }
        error
    }

    pub(super) fn each<T>(&self, outcomes: Vec<Result<T, RemoteError>>) -> Vec<Result<T, RemoteError>> {
        outcomes.into_iter().map(|outcome| outcome.map_err(|error| self.error(error))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::remote::RemoteFault;

    #[test]
    fn a_token_is_not_repeated_nor_its_beginning() {
        let redaction = Redaction::of(Some("hunter2-ü-secret".to_owned()));
        let told = |text: &str| redaction.error(RemoteError::new(RemoteFault::Denied, text)).message;
        assert_eq!(told("no: `Bearer hunter2-ü-secret`, and hunter2-ü-secret"), "no: `Bearer …`, and …");
        assert_eq!(told("no: Bearer hunter2-ü-sec"), "no: Bearer …");
        assert_eq!(told("no: Bearer hunt"), "no: Bearer …");
        assert_eq!(told("no more oh"), "no more oh");
        let none = Redaction::of(None);
        assert_eq!(none.error(RemoteError::new(RemoteFault::Denied, "hunter2")).message, "hunter2");
    }
}
