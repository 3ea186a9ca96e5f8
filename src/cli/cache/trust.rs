//! `rivet cache trust`.

use clap::Args;
use rivet::cache::trust::PublicKey;

use super::super::{Exit, complain, print, trust_failed};
use super::keys::folder;

/// Believe what somebody else's builds put into shared caches
///
/// Adds a public key to `trusted-keys` in your configuration folder, $XDG_CONFIG_HOME/rivet or
/// ~/.config/rivet. To stop believing it, remove its line there.
#[derive(Args)]
pub struct TrustArgs {
    /// The public key, as `rivet cache keygen` prints it: rivet-ed25519:…
    #[arg(value_name = "KEY")]
    key: String,
    /// Whose it is, for people who read the list
    #[arg(value_name = "NAME", default_value = "")]
    name: String,
}

pub fn run(args: &TrustArgs) -> Result<Exit, Exit> {
    // Not parsed by the command line's parser, which would repeat a private key in its message.
    let key: PublicKey = args.key.trim().parse().map_err(|error| {
        complain(format_args!("KEY is no public key: {error}"), None);
        Exit::Usage
    })?;
    let folder = folder()?;
    let is_new = folder.trust(&key, &args.name).map_err(|error| trust_failed(&error))?;
    let list = folder.trusted_keys_path();
    let what = if is_new { "is trusted from now on" } else { "was trusted already" };
    print(format_args!("{key} {what}: see {}", list.display()));
    Ok(Exit::Done)
}
