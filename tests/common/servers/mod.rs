//! Servers that keep remotes, each started by a test on a port of its own and in a folder of its own, and
//! ended with it. `scripts/setup.sh test` brings them.

pub mod casd;
pub mod mock;
#[cfg(feature = "stores")]
pub mod redis;
pub mod s3;
pub mod webdav;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any of them takes to start, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped, also by a panic.
pub struct Running {
    child: Child,
    pub port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts what `command` makes for a port, and waits until it takes connections. What it prints goes to
/// `log`. Where another program was faster to take the port, there is another port.
pub fn start(log: &Path, command: impl Fn(u16) -> Command) -> Running {
    for _ in 0..5 {
        let port = free_port();
        let output = File::create(log).unwrap();
        let mut command = command(port);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; `scripts/setup.sh test` brings it", command.get_program().display())
        });
        let mut running = Running { child, port };
        if takes_connections(&mut running) {
            return running;
        }
    }
    panic!("the server does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
}

/// A port that was free just now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// `false` where it ended instead.
fn takes_connections(running: &mut Running) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, running.port));
    let since = Instant::now();
    while since.elapsed() < START {
        if running.child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect_timeout(&address, START).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Makes a certificate for this machine, `cert.pem` and `key.pem`, that is its own authority.
pub fn make_certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=rivet-test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A tool that `scripts/setup.sh` put into the repository's own folder, or else one on PATH.
pub fn tool(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin").join(name);
    if own.exists() { own } else { name.into() }
}
