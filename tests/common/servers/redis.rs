//! Redis with a password.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Running, start};

pub const PASSWORD: &str = "redis-hunter2-secret";

pub struct Redis {
    _folder: TempDir,
    running: Running,
}

impl Redis {
    /// `settings` are lines of its configuration, as arguments: `--maxmemory 1mb`.
    pub fn start(settings: &[&str]) -> Redis {
        Redis::start_at(|port, command| {
            command.args(["--port", &port.to_string()]).args(settings);
        })
    }

    /// With TLS, by `cert.pem` and `key.pem` of a folder.
    pub fn start_tls(certificate: &Path) -> Redis {
        Redis::start_at(|port, command| {
            command
                .args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
                .arg("--tls-cert-file")
                .arg(certificate.join("cert.pem"))
                .arg("--tls-key-file")
                .arg(certificate.join("key.pem"));
        })
    }

    fn start_at(settings: impl Fn(u16, &mut Command)) -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let running = start(&folder.path().join("log"), |port| {
            let mut command = Command::new("redis-server");
            command
                .args(["--bind", "127.0.0.1"])
                .args(["--requirepass", PASSWORD, "--save", "", "--appendonly", "no", "--dir"])
                .arg(folder.path());
            settings(port, &mut command);
            command
        });
        Redis { _folder: folder, running }
    }

    /// `scheme` is redis or rediss.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/team/cache", self.running.port)
    }

    /// Sets the value of a name under the remote's root, behind the remote's back.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        redis::cmd("SET").arg(format!("team/cache/v3/{name}")).arg(bytes).exec(&mut self.connect()).unwrap();
    }

    /// Breaks all connections to it.
    pub fn drop_clients(&self) {
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec(&mut self.connect()).unwrap();
    }

    fn connect(&self) -> redis::Connection {
        let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", self.running.port);
        redis::Client::open(url).unwrap().get_connection().unwrap()
    }
}
