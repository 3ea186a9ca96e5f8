//! A test in a process of its own, for what a process has one of: its environment.

use std::env;
use std::process::Command;

const ROLE: &str = "RIVET_TEST_ROLE";
/// Variables that begin like this are the tester's own, and no test's.
const NOT_OURS: [&str; 9] =
    ["AWS_", "GOOGLE_", "AZURE_", "AZBLOB_", "RIVET_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Runs `body` of the test called `test` with these variables in the environment, and an empty home.
/// Everything is logged then, and none of `secrets` may be in what is printed.
pub fn own_process(test: &str, variables: &[(&str, &str)], secrets: &[&str], body: impl FnOnce()) {
    if env::var_os(ROLE).is_some_and(|role| role == test) {
        let level = tracing_subscriber::filter::LevelFilter::TRACE;
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
        body();
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy().to_uppercase();
        if NOT_OURS.iter().any(|prefix| shown.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.args([test, "--exact", "--nocapture"]).env(ROLE, test).env("HOME", home.path());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let end: Vec<&str> = printed.lines().rev().take(60).collect();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(output.status.success() && printed.contains("1 passed"), "{end}");
    for secret in secrets {
        let leak = printed.lines().find(|line| line.contains(secret));
        assert!(leak.is_none(), "a secret was printed: {}", leak.unwrap_or_default());
    }
}
