//! WebDAV with a password: nginx, with the methods that its own module lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Running, start};

pub const USER: &str = "ann";
pub const PASSWORD: &str = "webdav-hunter2-secret";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";

pub struct WebDav {
    folder: TempDir,
    running: Running,
}

impl WebDav {
    pub fn start() -> WebDav {
        WebDav::start_with("", "")
    }

    /// With TLS, by `cert.pem` and `key.pem` of a folder.
    pub fn start_tls(certificate: &Path) -> WebDav {
        let here = certificate.display();
        let settings = format!("ssl_certificate {here}/cert.pem;\nssl_certificate_key {here}/key.pem;\n");
        WebDav::start_with(" ssl", &settings)
    }

    fn start_with(listen: &str, settings: &str) -> WebDav {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        fs::create_dir(here.join("files")).unwrap();
        fs::write(here.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let running = start(&here.join("log"), |port| {
            fs::write(here.join("nginx.conf"), configuration(here, port, listen, settings)).unwrap();
            let mut command = Command::new(nginx());
            command.arg("-p").arg(here).arg("-c").arg(here.join("nginx.conf")).args(["-e", "stderr"]);
            command
        });
        WebDav { folder, running }
    }

    pub fn port(&self) -> u16 {
        self.running.port
    }

    /// `scheme` is webdav or webdavs.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/team/cache", self.running.port)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("files/team/cache/v3").join(name)
    }
}

/// Debian keeps it where only root's PATH leads.
fn nginx() -> &'static Path {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.exists() { usual } else { Path::new("nginx") }
}

fn configuration(here: &Path, port: u16, listen: &str, settings: &str) -> String {
    let here = here.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {here}/tmp-{what};\n"))
        .concat();
    format!(
        "load_module {MODULE};\n\
         daemon off;\nmaster_process off;\npid {here}/pid;\n\
         events {{}}\n\
         http {{\n\
         access_log off;\n\
         {temporary}\
         server {{\n\
         listen 127.0.0.1:{port}{listen};\n\
         {settings}\
         root {here}/files;\n\
         client_max_body_size 0;\n\
         dav_methods PUT DELETE MKCOL COPY MOVE;\n\
         dav_ext_methods PROPFIND OPTIONS;\n\
         auth_basic rivet;\n\
         auth_basic_user_file {here}/users;\n\
         }}\n}}\n"
    )
}
