//! The parameters of a remote's URL. Each scheme has a list of known ones; any other is an error, so that a
//! typing mistake is noticed.

use std::collections::BTreeMap;

use super::{RemoteError, RemoteUrl, refused};
use crate::suggest;

pub(super) struct Parameters {
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// Reads the parameters of `url`, which may be those that are `known`.
    pub fn of(url: &RemoteUrl, known: &[&'static str]) -> Result<Parameters, RemoteError> {
        let mut values = BTreeMap::new();
        for (name, value) in url.parameters() {
            if !known.contains(&name.as_str()) {
                return Err(refused(unknown(url.scheme(), &name, known)));
            }
            if value.is_empty() {
                return Err(refused(format_args!("its parameter `{name}` has no value")));
            }
            if values.insert(name.clone(), value).is_some() {
                return Err(refused(format_args!("its parameter `{name}` stands there twice")));
            }
        }
        Ok(Parameters { values })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// `true` or `false`; false where it does not stand.
    pub fn flag(&self, name: &str) -> Result<bool, RemoteError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(refused(format_args!("its parameter `{name}` must be `true` or `false`"))),
        }
    }
}

fn unknown(scheme: &str, name: &str, known: &[&'static str]) -> String {
    let told = format!("`{name}` is no parameter of {scheme} remotes");
    match suggest::nearest(name, known.iter().copied()) {
        Some(meant) => format!("{told}; did you mean `{meant}`?"),
        None if known.is_empty() => format!("{told}, which have none"),
        None => format!("{told}; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["region", "anonymous"];

    fn told(text: &str, known: &[&'static str]) -> String {
        Parameters::of(&text.parse().unwrap(), known).err().unwrap().message
    }

    #[test]
    fn known_ones_are_read() {
        let url = "s3://bucket?region=eu-1&anonymous=true".parse().unwrap();
        let parameters = Parameters::of(&url, &KNOWN).unwrap();
        assert_eq!(parameters.get("region"), Some("eu-1"));
        assert!(parameters.flag("anonymous").unwrap());
        let url = "s3://bucket?anonymous=yes".parse().unwrap();
        assert!(Parameters::of(&url, &KNOWN).unwrap().flag("anonymous").is_err());
    }

    #[test]
    fn others_are_errors_that_help() {
        assert!(told("s3://bucket?regoin=eu-1", &KNOWN).contains("did you mean `region`?"));
        assert!(told("s3://bucket?colour=red", &KNOWN).contains("known are region, anonymous"));
        assert!(told("fs:///mnt?mode=7", &[]).contains("no parameter of fs remotes, which have none"));
        assert!(told("s3://bucket?region=", &KNOWN).contains("has no value"));
        assert!(told("s3://bucket?region=a&region=b", &KNOWN).contains("twice"));
    }
}
