//! Where a remote is: a URL without credentials, fit to be shown and to stand in a spec.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::suggest;

/// The kinds of remote by their URLs' schemes, each with an example.
pub const SCHEMES: [(&str, &str); 10] = [
    ("s3", "s3://bucket/prefix?region=eu-central-1"),
    ("gs", "gs://bucket/prefix"),
    ("azblob", "azblob://container/prefix?account=name"),
    ("webdav", "webdav://host:8080/folder"),
    ("webdavs", "webdavs://host/folder"),
    ("redis", "redis://host:6379/prefix"),
    ("rediss", "rediss://host:6379/prefix"),
    ("fs", "fs:///mnt/team/rivet"),
    ("grpc", "grpc://host:9092/instance"),
    ("grpcs", "grpcs://host:9092/instance"),
];

/// What parameters are called that have no place in a URL that people see.
const SECRET_WORDS: [&str; 8] = ["secret", "pass", "token", "sas", "credential", "key", "sig", "auth"];

/// The URL of a remote, with a scheme that is one of `SCHEMES` and without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl(Url);

/// Who named a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// By a flag or a variable.
    User,
    /// Only the spec, which may come from someone else's repository.
    Spec,
}

/// Why a text is no URL of a remote. Repeats nothing of it that may be a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it is not a URL ({0}); one is, e.g., {example}", example = SCHEMES[0].1)]
    Syntax(#[from] url::ParseError),
    #[error("`{scheme}` is no kind of remote{}", known(.scheme))]
    Scheme { scheme: String },
    #[error("credentials have no place in it: they come from the environment, see docs/cache.md")]
    Credentials,
    #[error("what stands behind `#` has no meaning in it")]
    Fragment,
    #[error("it does not say where; one is, e.g., {0}")]
    Nowhere(&'static str),
    #[error("a folder's URL has three slashes, as {0} has")]
    TwoSlashes(&'static str),
}

fn known(scheme: &str) -> String {
    let schemes = SCHEMES.map(|(scheme, _)| scheme);
    match suggest::nearest(scheme, schemes) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => format!("; known are {}", schemes.join(", ")),
    }
}

impl RemoteUrl {
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Host, bucket or container; none of a folder.
    pub fn host(&self) -> Option<&str> {
        self.0.host_str()
    }

    pub fn port(&self) -> Option<u16> {
        self.0.port()
    }

    /// The port, or the one that is usual for its scheme, if one is.
    pub fn port_or_usual(&self) -> Option<u16> {
        self.port().or_else(|| match self.scheme() {
            "webdav" | "grpc" => Some(80),
            "webdavs" | "grpcs" => Some(443),
            "redis" | "rediss" => Some(6379),
            _ => None,
        })
    }

    /// The URL without its parameters, for messages about those: what stands among them may be a secret by
    /// a name that nobody knows.
    pub fn place(&self) -> String {
        let mut place = self.0.clone();
        place.set_query(None);
        place.into()
    }

    /// The path without slashes at its ends, decoded.
    pub fn path(&self) -> String {
        let path = self.0.path().trim_matches('/');
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }

    /// The parameters behind the question mark, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.0.query_pairs().into_owned().collect()
    }
}

impl FromStr for RemoteUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<RemoteUrl, UrlError> {
        let url = Url::parse(text)?;
        let scheme = url.scheme();
        let Some((_, example)) = SCHEMES.into_iter().find(|(known, _)| *known == scheme) else {
            return Err(UrlError::Scheme { scheme: scheme.to_owned() });
        };
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query_pairs().any(|(name, value)| is_secret(&name, &value))
        {
            return Err(UrlError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        if scheme == "fs" && url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(UrlError::TwoSlashes(example));
        }
        let names_a_place = match scheme {
            "fs" => url.path().len() > 1,
            _ => url.host_str().is_some_and(|host| !host.is_empty()),
        };
        if names_a_place { Ok(RemoteUrl(url)) } else { Err(UrlError::Nowhere(example)) }
    }
}

/// Whether a parameter may be one that lets its holder in.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || has_user(&name, value)
}

/// Whether a parameter is a URL, or meant to be one, with a user and perhaps a password in it.
fn has_user(name: &str, value: &str) -> bool {
    (name == "endpoint" || value.contains("://")) && value.contains('@')
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_one() {
        for (scheme, example) in SCHEMES {
            let url: RemoteUrl = example.parse().unwrap();
            assert_eq!(url.scheme(), scheme);
            assert_eq!(url.to_string(), example);
        }
    }

    #[test]
    fn parts_are_decoded() {
        let url: RemoteUrl =
            "s3://bucket/a%20b/c/?endpoint=http%3A%2F%2Fhost%3A9000&region=x".parse().unwrap();
        assert_eq!((url.host(), url.path().as_str()), (Some("bucket"), "a b/c"));
        let parameters = url.parameters();
        assert_eq!(parameters[0], ("endpoint".to_owned(), "http://host:9000".to_owned()));
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in [
            "redis://:hunter2@host/",
            "webdav://ann:hunter2@host/",
            "webdav://ann@host/",
            "s3://bucket/?secret_access_key=hunter2",
            "s3://bucket/?access_key_id=hunter2",
            "azblob://container/?account=a&SAS_token=hunter2",
            "azblob://container/?account=a&sig=hunter2",
            "s3://bucket/?pass=hunter2",
            "s3://bucket/?key=hunter2",
            "s3://bucket/?region=x&endpoint=http://ann:hunter2@host",
            "s3://bucket/?region=x&endpoint=ann:hunter2%40host",
        ] {
            let error = text.parse::<RemoteUrl>().unwrap_err();
            assert_eq!(error, UrlError::Credentials, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let told = |text: &str| text.parse::<RemoteUrl>().unwrap_err().to_string();
        assert!(told("team-cache").contains("it is not a URL"));
        assert!(told("redi://host/").contains("did you mean `redis`?"));
        assert!(told("ftp://host/").contains("known are s3, gs,"));
        assert!(told("fs://mnt/team").contains("three slashes, as fs:///mnt/team/rivet"));
        let fragment = told("s3://bucket/p#hunter2");
        assert!(fragment.contains("behind `#`") && !fragment.contains("hunter2"));
        assert!(told("fs:///").contains("fs:///mnt/team/rivet"));
    }
}
