//! An S3 server that checks signatures: JuiceFS's gateway, which is MinIO's, on a folder. It ignores
//! conditions; those are tested against a mock.

use std::fs;
use std::process::{Command, Output};

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
        let catalogue = format!("sqlite3://{}/catalogue.db", folder.path().display());
        let mut format = Command::new(tool("juicefs"));
        format.args(["format", "--storage", "file", "--trash-days", "0", "--bucket"]);
        // The slash at its end makes it a folder.
        format.arg(folder.path().join("data/")).args([&catalogue, BUCKET]);
        expect_success(format.output().unwrap());
        let running = start(&folder.path().join("log"), |port| {
            let mut command = Command::new(tool("juicefs"));
            command
                .args(["gateway", &catalogue, &format!("127.0.0.1:{port}")])
                .args(["--cache-dir", "memory", "--metrics", "127.0.0.1:0", "--no-banner"])
                .args(["--no-usage-report", "--no-bgjob", "--backup-meta", "0"])
                .env("MINIO_ROOT_USER", KEY_ID)
                .env("MINIO_ROOT_PASSWORD", SECRET);
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

    /// What rclone calls the bucket.
    pub fn rclone_remote(&self) -> String {
        let endpoint = self.endpoint();
        format!(
            ":s3,provider=Minio,endpoint='{endpoint}',access_key_id={KEY_ID},secret_access_key={SECRET}:{BUCKET}"
        )
    }

    /// Puts an object under the remote's root, behind the remote's back: by another client.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join("planted");
        fs::write(&file, bytes).unwrap();
        let object = format!("{}/team/cache/v3/{name}", self.rclone_remote());
        let mut copy = Command::new(tool("rclone"));
        copy.args(["copyto", "--config", "", "--no-check-dest"]).arg(&file).arg(object);
        expect_success(copy.output().unwrap());
    }
}

fn expect_success(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
