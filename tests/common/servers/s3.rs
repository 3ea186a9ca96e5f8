//! An S3 server that checks signatures: rclone's, on a folder.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::{Running, start, tool};

pub const KEY_ID: &str = "AKIARIVETTEST";
pub const SECRET: &str = "s3-hunter2-secret";
pub const BUCKET: &str = "bucket";

pub struct S3 {
    folder: TempDir,
    running: Running,
}

impl S3 {
    pub fn start() -> S3 {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("files").join(BUCKET)).unwrap();
        let running = start(&folder.path().join("log"), |port| {
            let mut command = Command::new(tool("rclone"));
            command
                .args(["serve", "s3", "--config", ""])
                .args(["--auth-key", &format!("{KEY_ID},{SECRET}")])
                .args(["--addr", &format!("127.0.0.1:{port}")])
                .arg(folder.path().join("files"));
            command
        });
        S3 { folder, running }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.running.port)
    }

    pub fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}/team/cache?region=us-east-1&endpoint={}", self.endpoint())
    }

    /// Puts an object under the remote's root, behind the remote's back: with another client, because the
    /// server remembers what its folders hold.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join("planted");
        fs::write(&file, bytes).unwrap();
        let endpoint = self.endpoint();
        let remote = format!(
            ":s3,provider=Rclone,endpoint='{endpoint}',access_key_id={KEY_ID},secret_access_key={SECRET}:"
        );
        let object = format!("{remote}{BUCKET}/team/cache/v2/{name}");
        let mut command = Command::new(tool("rclone"));
        command.args(["copyto", "--config", "", "--no-check-dest"]).arg(&file).arg(object);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
