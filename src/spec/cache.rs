//! Reads `[cache]`: the cache folder, the remote and the trusted keys. The caches themselves are elsewhere.

use std::str::FromStr;

use super::entry::Entry;
use super::fields::Fields;
use super::keys;
use super::outputs::Located;
use super::paths::{self, BaseDir, ResolvedPath};
use super::problems::{Problems, Read};
use crate::cache::remote::RemoteUrl;
use crate::cache::trust::PublicKey;

/// The table as it is written.
#[derive(Default)]
pub(super) struct Caches {
    /// The cache folder, if the spec names one. Unlike an output it may stand anywhere: nothing in it
    /// is removed that the cache did not write.
    pub(super) dir: Option<Located>,
    pub(super) remote: Option<RemoteUrl>,
    pub(super) trusted_keys: Vec<PublicKey>,
}

pub(super) fn read(root: &mut Fields<'_>, base: &BaseDir, problems: &mut Problems) -> Read<Caches> {
    let Some(mut fields) = root.table("cache", &keys::CACHE, problems)? else {
        return Ok(Caches::default());
    };
    let dir = fields.optional("dir", |entry| {
        let path = paths::read(&entry, base, problems)?;
        if let Some(obstacle) = paths::obstacle(&path) {
            let headline = "cannot be used as a folder";
            return Err(problems.report(entry.problem(headline, obstacle.to_string()).help(entry.example())));
        }
        Ok(Located { path: ResolvedPath::new(&path), span: entry.span })
    });
    let remote = fields.optional("remote", |entry| parsed::<RemoteUrl>(&entry, "cannot be used", problems));
    let trusted_keys = fields.optional("trusted-keys", |entry| {
        let keys = entry.elements(problems)?;
        let keys: Vec<Read<PublicKey>> =
            keys.iter().map(|key| parsed(key, "must have public keys", problems)).collect();
        keys.into_iter().collect()
    });
    fields.finish(problems);
    Ok(Caches { dir: dir?, remote: remote?, trusted_keys: trusted_keys?.unwrap_or_default() })
}

/// A text that is read by its type's own rules.
fn parsed<T: FromStr<Err: ToString>>(entry: &Entry<'_>, headline: &str, problems: &mut Problems) -> Read<T> {
    entry.text(problems)?.parse().map_err(|error: T::Err| {
        problems.report(entry.problem(headline, error.to_string()).help(entry.example()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::testing::{SPEC, has, invalid, ladder, read_at};

    fn spec(lines: &str) -> String {
        format!("{SPEC}[cache]\n{lines}\n")
    }

    #[test]
    fn the_folder_is_relative_to_the_spec() {
        let dir = |lines: &str| ladder(&spec(lines)).cache.dir;
        assert_eq!(ladder(SPEC).cache.dir, None);
        assert_eq!(dir(""), None);
        assert_eq!(dir("dir = '../cache'").as_deref(), Some(Path::new("/no/cache")));
        assert_eq!(dir("dir = '/no/c'").as_deref(), Some(Path::new("/no/c")));
    }

    #[test]
    fn a_remote_is_a_url_without_credentials() {
        let cache = ladder(&spec("remote = 'fs:///mnt/team/rivet'")).cache;
        assert_eq!(cache.remote.unwrap().to_string(), "fs:///mnt/team/rivet");
        has(
            &invalid(&spec("remote = 'redi://host'")),
            &["`remote` in `[cache]` cannot be used", "did you mean `redis`?", "remote = \"s3://"],
        );
        let text = invalid(&spec("remote = 'redis://:hunter2@host/'"));
        has(&text, &["credentials have no place in it", "redis://********@host/"]);
        let text = invalid(&spec("remote = 's3://b#hunter2'"));
        has(&text, &["behind `#` has no meaning", "s3://b#*******"]);
        // Also where something else is wrong in that line.
        let text = invalid(&spec("remote = ['s3://AKIA:hunter2@b']"));
        has(&text, &["must be a string", "s3://************@b"]);
        assert!(!invalid(&spec("remote = 's3://AKIA:hunter2@b")).contains("hunter2"));
        has(&invalid(&spec("remote = 3")), &["`remote` in `[cache]` must be a string"]);
    }

    #[test]
    fn trusted_keys_are_public_ones() {
        let key = "rivet-ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let cache = ladder(&spec(&format!("trusted-keys = ['{key}']"))).cache;
        assert_eq!(cache.trusted_keys[0].to_string(), key);
        for wrong in ["trusted-keys = ['ssh-ed25519 AAAA']", "trusted-keys = ['rivet-ed25519:00']"] {
            has(&invalid(&spec(wrong)), &["`trusted-keys` in `[cache]` must have public keys"]);
        }
        has(&invalid(&spec("trusted-keys = 'x'")), &["must be an array"]);
        let text = invalid(&spec(&format!("trusted-keys = ['rivet-ed25519-secret:{}']", "17".repeat(32))));
        has(&text, &["this is a private key", "rivet-ed25519-secret:****"]);
        assert!(!text.contains("1717"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let text = read_at(&spec("dir = 'file/x'"), folder.path()).unwrap_err().to_string();
        has(&text, &["`dir` in `[cache]` cannot be used as a folder", "is a file"]);
        has(&invalid(&spec("dir = ''")), &["`dir` in `[cache]` is empty"]);
    }
}
