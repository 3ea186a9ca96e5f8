//! Tokens, TLS and mTLS, as they are set in the environment.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use rivet::testing::cache::remote::{NamedBy, RemoteFault};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::common::own_process::own_process;
use super::reapi_server::{Behaviour, INSTANCE, ReapiServer};
use super::{Client, blob, open, open_as};

/// Not a test by itself: what `ask` runs, with credentials in its environment.
#[test]
fn asks_as_a_child() {
    let (Some(url), Some(told)) = (env::var_os("RIVET_TEST_URL"), env::var_os("RIVET_TEST_TOLD")) else {
        return;
    };
    let outcome = open(url.to_str().unwrap())
        .and_then(|client| client.missing(&[blob(1, 10).0]).map(|missing| missing.len()));
    fs::write(told, format!("{outcome:?}")).unwrap();
}

/// What asking for a missing blob comes to, by a process with these variables.
fn ask(url: &str, variables: &[(&str, &dyn AsRef<OsStr>)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "credentials::asks_as_a_child"])
        .env("RIVET_TEST_URL", url)
        .env("RIVET_TEST_TOLD", &told);
    for name in ["TOKEN", "CA", "CERT", "KEY"] {
        command.env_remove(format!("RIVET_REMOTE_{name}"));
    }
    for (name, value) in variables {
        command.env(name, value.as_ref());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(told).unwrap()
}

const ANSWERED: &str = "Ok(1)";

#[test]
fn tokens_are_sent_only_where_nobody_reads_them() {
    let behaviour = Behaviour { token: Some("hunter2".into()), echoes: true, ..Behaviour::default() };
    let server = ReapiServer::start(behaviour);
    assert_eq!(ask(&server.url(), &[("RIVET_REMOTE_TOKEN", &"hunter2\n")]), ANSWERED);
    for variables in [&[][..], &[("RIVET_REMOTE_TOKEN", &"hunter3" as &dyn AsRef<OsStr>)]] {
        let told = ask(&server.url(), variables);
        assert!(told.contains("Denied") && !told.contains("hunter"), "{told}");
    }
    let told = ask("grpc://cache.example:1/main", &[("RIVET_REMOTE_TOKEN", &"hunter2")]);
    assert!(told.contains("Refused") && told.contains("use grpcs://"), "{told}");
    let told = ask(&server.url(), &[("RIVET_REMOTE_TOKEN", &"hunter\u{7}2")]);
    assert!(told.contains("Refused") && !told.contains("hunter"), "{told}");
}

#[test]
fn a_spec_is_told_no_token() {
    let variables = [("RIVET_REMOTE_TOKEN", "hunter2"), ("RIVET_REMOTE_HOST", "cache.example:443")];
    own_process("credentials::a_spec_is_told_no_token", &variables, &["hunter2"], || {
        for url in ["grpcs://evil.example/x", "grpc://127.0.0.1:1/x", "grpcs://cache.example:444/x"] {
            let error = open_as(NamedBy::Spec, url).err().unwrap();
            assert_eq!(error.fault, RemoteFault::Denied, "{error}");
            assert!(error.message.contains("RIVET_REMOTE_TOKEN is set, and only the spec"), "{error}");
        }
        assert!(open_as(NamedBy::Spec, "grpcs://cache.example/x").is_ok());
    });
}

#[test]
fn tokens_are_never_shown() {
    let variables = [("RIVET_REMOTE_TOKEN", "hunter2-secret")];
    own_process("credentials::tokens_are_never_shown", &variables, &["hunter2-secret"], || {
        let behaviour = Behaviour { token: Some("hunter2-secret".into()), ..Behaviour::default() };
        let server = ReapiServer::start(behaviour);
        let client = Client::of(&server);
        assert_eq!(client.missing(&[blob(1, 10).0]).unwrap().len(), 1);
        server.state().behaviour.token = Some("another".into());
        let error = client.missing(&[blob(1, 10).0]).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Denied);
    });
}

/// An authority, and what it vouches for.
struct Authority {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// A certificate and its key.
    fn vouch(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn tls_says_who_is_who() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", &authority.pem);
    let (cert, key) = authority.vouch("client");
    let (cert, key) = (file("client.pem", &cert), file("client.key", &key));
    let (server_cert, server_key) = authority.vouch("localhost");
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(server_cert, server_key));
    let url = |server: &ReapiServer| format!("grpcs://localhost:{}/{}", server.port(), INSTANCE);

    let behaviour = Behaviour { token: Some("hunter2".into()), ..Behaviour::default() };
    let server = ReapiServer::start_tls(behaviour, tls.clone());
    let token: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_TOKEN", &"hunter2");
    assert_eq!(ask(&url(&server), &[token, ("RIVET_REMOTE_CA", &ca)]), ANSWERED);
    let other = file("other.pem", &stranger.pem);
    let told = ask(&url(&server), &[token, ("RIVET_REMOTE_CA", &other)]);
    assert!(told.starts_with("Err") && told.contains("certificate"), "{told}");

    let tls = tls.client_ca_root(Certificate::from_pem(&authority.pem));
    let server = ReapiServer::start_tls(Behaviour::default(), tls);
    let known: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_CA", &ca);
    let certified: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_CERT", &cert);
    let keyed: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_KEY", &key);
    assert_eq!(ask(&url(&server), &[known, certified, keyed]), ANSWERED);
    assert!(ask(&url(&server), &[known]).starts_with("Err"));

    let server = ReapiServer::start(Behaviour::default());
    let told = ask(&url(&server), &[known]);
    assert!(told.contains("Refused") && told.contains("does not speak TLS there"), "{told}");

    // What is wrong with the files is told before anybody is asked.
    for variables in [
        &[known, certified][..],
        &[known, keyed],
        &[("RIVET_REMOTE_CA", &key)],
        &[("RIVET_REMOTE_CA", &Path::new("/nowhere/ca.pem"))],
        &[known, certified, ("RIVET_REMOTE_KEY", &cert)],
    ] {
        let told = ask(&url(&server), variables);
        assert!(told.contains("Refused") && told.contains("RIVET_REMOTE_"), "{told}");
    }
}
