//! Redis with a password.

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
        let folder = tempfile::tempdir().unwrap();
        let running = start(&folder.path().join("log"), |port| {
            let mut command = Command::new("redis-server");
            command
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--requirepass", PASSWORD, "--save", "", "--appendonly", "no", "--dir"])
                .arg(folder.path())
                .args(settings);
            command
        });
        Redis { _folder: folder, running }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/team/cache", self.running.port)
    }

    /// Sets the value of a name under the remote's root, behind the remote's back.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        redis::cmd("SET").arg(format!("team/cache/v2/{name}")).arg(bytes).exec(&mut self.connect()).unwrap();
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
