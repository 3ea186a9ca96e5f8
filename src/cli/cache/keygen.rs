//! `rivet cache keygen`.

use std::time::SystemTime;

use clap::Args;
use rivet::cache::trust::{self, SIGNING_KEY_VARIABLE, SigningKey, TrustError};

use super::super::{Exit, print, trust_failed};
use super::keys::{folder, note};

/// Make a key that signs what your builds put into shared caches
///
/// The private key goes into your configuration folder, $XDG_CONFIG_HOME/rivet or ~/.config/rivet, as
/// `signing-key`, which only you can read. The public key is printed, and added to `trusted-keys` there.
#[derive(Args)]
pub struct KeygenArgs {
    /// Make another key although there is one, which is then kept as `signing-key.old`
    #[arg(long)]
    force: bool,
}

pub fn run(args: &KeygenArgs) -> Result<Exit, Exit> {
    let folder = folder()?;
    let made = || {
        // What is wrong with the list shows before there is a key that is not in it.
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
    note(format_args!(
        "the private key is {}: only you can read it, and nobody else should",
        signing.display()
    ));
    note(format_args!("this is its public key, for whoever is to believe what you build:"));
    note(format_args!("  rivet cache trust {public} \"who you are\""));
    if let Some(old) = old {
        note(format_args!("the key before it is kept as {}", old.display()));
        note(format_args!(
            "what that one signed still counts; if it is in wrong hands, remove its line from {}",
            trusted.display()
        ));
    }
    if trust::variable().is_some() {
        note(format_args!(
            "as long as {SIGNING_KEY_VARIABLE} is set, the key there signs in place of this one"
        ));
    }
    Ok(Exit::Done)
}
