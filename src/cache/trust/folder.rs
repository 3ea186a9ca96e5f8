//! The user's keys in the configuration folder. It refuses files that others could read or write, and
//! never replaces a private key without keeping it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyError, PublicKey, SIGNING_KEY_VARIABLE, SigningKey};
use crate::cache::base_dir;

/// A private key is shorter by far; what is longer is some other file.
const MAX_SECRET: u64 = 4096;

/// The folder with the user's keys. Nothing need be there.
#[derive(Clone, Debug)]
pub struct KeyFolder(PathBuf);

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// `mode` are the file's permissions as `chmod` counts them.
    #[error("{} holds a private key, and others may read it (mode {mode:03o})", path.display())]
    ReadableByOthers { path: PathBuf, mode: u32 },
    #[error("{} says whom to trust, and everybody may write it (mode {mode:03o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error("{} holds no private key: {error}", path.display())]
    SigningKey { path: PathBuf, error: KeyError },
    /// `line` counts from 1.
    #[error("{}:{line}: {error}", path.display())]
    TrustedKey { path: PathBuf, line: usize, error: KeyError },
    #[error("{SIGNING_KEY_VARIABLE} holds no private key: {0}")]
    Environment(KeyError),
    #[error("there is a private key in {} already", .0.display())]
    Exists(PathBuf),
    #[error("the system has no randomness to make a key of: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl TrustError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TrustError {
        let path = path.to_owned();
        move |source| TrustError::Io { operation, path, source }
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            TrustError::ReadableByOthers { path, .. } => Some(format!(
                "if nobody else has read it: chmod 600 '{}'; otherwise make another with `rivet cache keygen --force`",
                path.display()
            )),
            TrustError::WritableByOthers { path, .. } => {
                Some(format!("look through it, then: chmod go-w '{}'", path.display()))
            }
            TrustError::Exists(_) => Some(
                "`rivet cache keys` shows its public key; --force makes another and keeps that one beside it"
                    .to_owned(),
            ),
            TrustError::Environment(_) => Some(
                "it should be the whole text of the file `signing-key` that `rivet cache keygen` writes"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl KeyFolder {
    pub fn new(folder: PathBuf) -> KeyFolder {
        KeyFolder(folder)
    }

    /// `$XDG_CONFIG_HOME/rivet`, or `~/.config/rivet`; `None` without a home folder.
    pub fn of_user() -> Option<KeyFolder> {
        base_dir::config_folder().map(KeyFolder)
    }

    /// The file with the private key.
    pub fn signing_key_path(&self) -> PathBuf {
        self.0.join("signing-key")
    }

    /// The file with the public keys that are trusted.
    pub fn trusted_keys_path(&self) -> PathBuf {
        self.0.join("trusted-keys")
    }

    /// The user's private key, if there is one.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, TrustError> {
        let path = self.signing_key_path();
        let Some(file) = open(&path)? else {
            return Ok(None);
        };
        let mode = mode(&file, &path)?;
        if mode & 0o077 != 0 {
            return Err(TrustError::ReadableByOthers { path, mode });
        }
        let text = secret(&file, &path)?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        text.trim().parse().map(Some).map_err(|error| TrustError::SigningKey { path, error })
    }

    /// The keys that the user trusts, each with what stands behind it in its line.
    pub fn trusted_keys(&self) -> Result<Vec<(PublicKey, String)>, TrustError> {
        let path = self.trusted_keys_path();
        let Some(mut file) = open(&path)? else {
            return Ok(Vec::new());
        };
        let mode = mode(&file, &path)?;
        if mode & 0o002 != 0 {
            return Err(TrustError::WritableByOthers { path, mode });
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(TrustError::io("read", &path))?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        keys.map(|(at, line)| {
            let (key, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match key.parse() {
                Ok(key) => Ok((key, name.trim().to_owned())),
                Err(error) => Err(TrustError::TrustedKey { path: path.clone(), line: at + 1, error }),
            }
        })
        .collect()
    }

    /// Adds a key to those that are trusted. `false` if it was there already, which stays as it is.
    /// Of `name` only one line is kept.
    pub fn trust(&self, key: &PublicKey, name: &str) -> Result<bool, TrustError> {
        if self.trusted_keys()?.iter().any(|(known, _)| known == key) {
            return Ok(false);
        }
        self.create()?;
        let path = self.trusted_keys_path();
        // Appended to, not replaced: the file may be a link to where somebody keeps configuration.
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(&path);
        let mut file = opened.map_err(TrustError::io("open", &path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(TrustError::io("read", &path))?;
        let gap = if text.last().is_some_and(|byte| *byte != b'\n') { "\n" } else { "" };
        let name = name.split(char::is_control).collect::<Vec<_>>().join(" ");
        let line = format!("{gap}{}\n", format!("{key} {}", name.trim()).trim_end());
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(TrustError::io("write", &path))?;
        Ok(true)
    }

    /// Gives keys that are trusted under one name another. All else in the list stays as it is.
    pub fn rename(&self, name: &str, new_name: &str) -> Result<(), TrustError> {
        if !self.trusted_keys()?.iter().any(|(_, known)| known == name) {
            return Ok(());
        }
        let path = self.trusted_keys_path();
        let text = std::fs::read_to_string(&path).map_err(TrustError::io("read", &path))?;
        let renamed = text.split_inclusive('\n').map(|line| {
            let words = line.trim().split_once(char::is_whitespace);
            match words.filter(|(key, named)| !key.starts_with('#') && named.trim() == name) {
                Some((key, _)) => format!("{key} {new_name}\n"),
                None => line.to_owned(),
            }
        });
        let renamed: String = renamed.collect();
        // The file may be a link to where somebody keeps configuration: that stays one.
        let file = std::fs::canonicalize(&path).map_err(TrustError::io("find", &path))?;
        let folder = file.parent().unwrap_or(&self.0);
        let meta = file.metadata().map_err(TrustError::io("look at", &file))?;
        let mut new = tempfile::Builder::new()
            .prefix(".trusted-keys-")
            .permissions(meta.permissions())
            .tempfile_in(folder)
            .map_err(TrustError::io("create a file in", folder))?;
        let written = new.write_all(renamed.as_bytes()).and_then(|()| new.as_file().sync_all());
        written.map_err(TrustError::io("write", &file))?;
        new.persist(&file).map_err(|error| TrustError::io("rename to", &file)(error.error))?;
        Ok(())
    }

    /// Keeps `key` as the user's private key. One that is there is an error, or with `replace` is kept
    /// beside it, under the path that is returned.
    pub fn keep(&self, key: &SigningKey, replace: bool) -> Result<Option<PathBuf>, TrustError> {
        self.create()?;
        let path = self.signing_key_path();
        let old = if replace { self.set_aside(&path)? } else { None };
        let mut text = key.secret_text();
        text.reserve_exact(1);
        text.push('\n');
        // Others may not read files that are made like this.
        let mut file = tempfile::Builder::new()
            .prefix(".signing-key-")
            .tempfile_in(&self.0)
            .map_err(TrustError::io("create a file in", &self.0))?;
        file.write_all(text.as_bytes()).map_err(TrustError::io("write", &path))?;
        file.as_file().sync_all().map_err(TrustError::io("sync", &path))?;
        let kept = if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
        match kept {
            Ok(_) => Ok(old),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(TrustError::Exists(path)),
            Err(error) => Err(TrustError::io("rename to", &path)(error.error)),
        }
    }

    /// Copies the private key to a name that is free.
    fn set_aside(&self, path: &Path) -> Result<Option<PathBuf>, TrustError> {
        let Some(mut file) = open(path)? else {
            return Ok(None);
        };
        let mut number = 1;
        loop {
            let ending = if number == 1 { String::new() } else { format!("-{number}") };
            let old = self.0.join(format!("signing-key.old{ending}"));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&old) {
                Ok(mut kept) => {
                    let copied = io::copy(&mut file, &mut kept).and_then(|_| kept.sync_all());
                    copied.map_err(TrustError::io("write", &old))?;
                    return Ok(Some(old));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrustError::io("create", &old)(error)),
            }
        }
    }

    /// Creates the folder with access for the user only; an existing one stays as it is.
    fn create(&self) -> Result<(), TrustError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(TrustError::io("create the folder", &self.0))
    }
}

/// The private key in the environment's variable.
pub(super) fn key_in_environment(text: &OsStr) -> Result<SigningKey, TrustError> {
    text.to_str().unwrap_or_default().trim().parse().map_err(TrustError::Environment)
}

fn open(path: &Path) -> Result<Option<File>, TrustError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TrustError::io("open", path)(error)),
    }
}

/// The permissions of an open file, which nobody can swap for another meanwhile.
fn mode(file: &File, path: &Path) -> Result<u32, TrustError> {
    let meta = file.metadata().map_err(TrustError::io("look at", path))?;
    Ok(meta.permissions().mode() & 0o777)
}

/// The start of a file that should hold a private key.
fn secret(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, TrustError> {
    // As long as it can get, so that no copy stays where a shorter one was.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 1));
    file.take(MAX_SECRET).read_to_end(&mut text).map_err(TrustError::io("read", path))?;
    Ok(text)
}
