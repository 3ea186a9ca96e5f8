//! `rivet cache keys`, and what the commands about keys have in common.

use std::io::Write;

use clap::Args;
use rivet::keys::{self, KeyFolder, SIGNING_KEY_VARIABLE, Trust};

use super::super::{Exit, complain, print, print_json, trust_failed};

/// List the key that signs your builds and the keys that you trust
///
/// A spec may trust further keys, for its own builds.
#[derive(Args)]
pub struct KeysArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &KeysArgs) -> Result<Exit, Exit> {
    let folder = folder()?;
    let trust = Trust::of_user(&[]).map_err(|error| trust_failed(&error))?;
    let signer = trust.signer();
    let from = match keys::variable() {
        Some(_) => SIGNING_KEY_VARIABLE.to_owned(),
        None => folder.signing_key_path().display().to_string(),
    };
    if args.json {
        let signing =
            signer.map(|public| serde_json::json!({ "key": public.to_string(), "private_key": from }));
        let trusted =
            trust.trusted().map(|(key, name)| serde_json::json!({ "key": key.to_string(), "name": name }));
        print_json(&serde_json::json!({ "signing": signing, "trusted": trusted.collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    match signer {
        Some(public) => print(format_args!("signs   {public}  {from}")),
        None => note(format_args!("there is no signing key; `rivet cache keygen` makes one")),
    }
    for (key, name) in trust.trusted() {
        print(format!("trusts  {key}  {name}").trim_end());
    }
    Ok(Exit::Done)
}

/// The user's keys.
pub(super) fn folder() -> Result<KeyFolder, Exit> {
    KeyFolder::of_user().ok_or_else(|| {
        complain("there is no home folder to keep keys in", Some("set HOME, or XDG_CONFIG_HOME to a folder"));
        Exit::Failed
    })
}

/// Prints a note that is no result.
pub(super) fn note(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
