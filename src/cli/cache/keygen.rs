//! `rivet cache keygen`.

use std::time::SystemTime;

use clap::Args;
use rivet::keys::{self, SIGNING_KEY_VARIABLE, SigningKey, TrustError};

use super::super::{Exit, print, trust_failed};
use super::keys::{folder, note};

/// Create the key that signs what your builds upload to shared caches
///
/// The private key is written to `signing-key` in your configuration folder, $XDG_CONFIG_HOME/rivet or
/// ~/.config/rivet, readable by you alone. The public key is printed, and added to `trusted-keys` there.
#[derive(Args)]
pub struct KeygenArgs {
    /// Create a new key although there is one, which is kept as `signing-key.old`
    #[arg(long)]
    force: bool,
}

pub fn run(args: &KeygenArgs) -> Result<Exit, Exit> {
    let folder = folder()?;
    let made = || {
        // A broken list is reported before there is a key that is not in it.
        folder.trusted_keys()?;
        let key = SigningKey::generate()?;
        let old = folder.keep(&key, args.force)?;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        folder.rename("own", &format!("own until {}", now.split('T').next().unwrap_or_default()))?;
        folder.trust(&key.public(), "own")?;
        Ok::<_, TrustError>((key.public(), old))
    };
    let (public, old) = made().map_err(|error| trust_failed(&error))?;
    print(public);
    let (signing, trusted) = (folder.signing_key_path(), folder.trusted_keys_path());
    note(format_args!("the private key is {}: only you can read it; keep it secret", signing.display()));
    note(format_args!("those who are to trust your builds run:"));
    note(format_args!("  rivet cache trust {public} \"YOUR NAME\""));
    if let Some(old) = old {
        note(format_args!("the previous key is kept as {}", old.display()));
        note(format_args!(
            "entries signed with it are still trusted; if it was stolen, remove its line from {}",
            trusted.display()
        ));
    }
    if keys::variable().is_some() {
        note(format_args!(
            "{SIGNING_KEY_VARIABLE} is set: builds sign with the key there, not with this one"
        ));
    }
    Ok(Exit::Done)
}
