//! `rivet cache trust`.

use clap::Args;
use rivet::keys::PublicKey;

use super::super::{Exit, complain, print, trust_failed};
use super::keys::folder;

/// Trust what somebody else's builds upload to shared caches
///
/// Adds a public key to `trusted-keys` in your configuration folder, $XDG_CONFIG_HOME/rivet or
/// ~/.config/rivet. To revoke it, remove its line there.
#[derive(Args)]
pub struct TrustArgs {
    /// The public key, as `rivet cache keygen` prints it: rivet-ed25519:…
    #[arg(value_name = "KEY")]
    key: String,
    /// Whose key it is, as a note in the list
    #[arg(value_name = "NAME", default_value = "")]
    name: String,
}

pub fn run(args: &TrustArgs) -> Result<Exit, Exit> {
    // Not parsed by the command line's parser, which would repeat a private key in its message.
    let key: PublicKey = args.key.trim().parse().map_err(|error| {
        complain(format_args!("KEY is not a public key: {error}"), None);
        Exit::Usage
    })?;
    let folder = folder()?;
    let is_new = folder.trust(&key, &args.name).map_err(|error| trust_failed(&error))?;
    let list = folder.trusted_keys_path();
    let what = if is_new { "is now trusted" } else { "was already trusted" };
    print(format_args!("{key} {what}: see {}", list.display()));
    Ok(Exit::Done)
}
