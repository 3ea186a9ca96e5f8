//! Where a file stands within a package: a relative path that cannot leave it, and that a
//! playlist can name by a URI.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path below a folder that is not named: one or more names joined by forward slashes, none of
/// them empty, `.` or `..`, without backslashes and control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

/// Why a text is no [`RelPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot name a file of a package: {reason}")]
pub struct RelPathError {
    pub path: String,
    pub reason: &'static str,
}

impl RelPath {
    pub fn new(path: impl Into<String>) -> Result<RelPath, RelPathError> {
        /// What Linux's file systems take for one name, in bytes.
        const LONGEST_NAME: usize = 255;
        let path = path.into();
        let reason = if path.is_empty() {
            "it is empty"
        } else if path.starts_with('/') {
            "it is absolute"
        } else if path.contains(|c: char| c == '\\' || c.is_control()) {
            "it has a backslash or a control character"
        } else if path.split('/').any(str::is_empty) {
            "one of its names is empty"
        } else if path.split('/').any(|name| matches!(name, "." | "..")) {
            "it has a name `.` or `..`"
        } else if path.split('/').any(|name| name.len() > LONGEST_NAME) {
            "one of its names is longer than 255 bytes"
        } else {
            return Ok(RelPath(path));
        };
        Err(RelPathError { path, reason })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path within `folder`.
    pub fn under(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }

    /// The folders that it is in, innermost first; none for a file at the top.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        let slashes = self.0.rmatch_indices('/');
        slashes.map(|(at, _)| self.0.get(..at).unwrap_or_default())
    }

    /// A relative reference to it (RFC 3986 4.2). All but unreserved characters and the slashes
    /// is percent-encoded, so that it can neither be read as a scheme, query or fragment nor end
    /// the line or quotes of a playlist that it stands in.
    pub fn uri(&self) -> String {
        let mut uri = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
        uri
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RelPath {
    type Error = RelPathError;

    fn try_from(path: String) -> Result<RelPath, RelPathError> {
        RelPath::new(path)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> String {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_out_of_the_package_are_refused() {
        for path in
            ["", "/a", "..", "../a", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", "a\\b", "a\nb", "a\0b"]
        {
            assert!(RelPath::new(path).is_err(), "{path:?}");
        }
        assert!(RelPath::new("a".repeat(256)).is_err());
        for path in ["a", "a/b.m4s", "..a/b..", ".hidden", "ä ö/#1?.m4s", "...", "a:b"] {
            assert!(RelPath::new(path).is_ok(), "{path:?}");
        }
        assert!(serde_json::from_str::<RelPath>("\"../etc/passwd\"").is_err());
    }

    #[test]
    fn uris_are_encoded() {
        let uri = |path: &str| RelPath::new(path).unwrap().uri();
        assert_eq!(uri("720p/seg-00001_a.~m4s"), "720p/seg-00001_a.~m4s");
        assert_eq!(uri("a:b/c d"), "a%3Ab/c%20d");
        assert_eq!(uri("#1?x=\"%é"), "%231%3Fx%3D%22%25%C3%A9");
    }

    #[test]
    fn folders_come_innermost_first() {
        let path = RelPath::new("a/b/c.m4s").unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(RelPath::new("c.m4s").unwrap().folders().count(), 0);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_below(path in "[a./\\\\ \n#\"ä]{0,12}") {
            if let Ok(path) = RelPath::new(path) {
                let full = path.under(Path::new("/out"));
                prop_assert!(full.components().all(|c| c != std::path::Component::ParentDir));
                prop_assert!(full.starts_with("/out") && full != Path::new("/out"));
                let uri = path.uri();
                prop_assert!(uri.bytes().all(|b| b.is_ascii_graphic() && !b"\"#".contains(&b)));
            }
        }
    }
}
