//! An S3 server that checks signatures, beside xpxe.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Process;
use crate::rack::{Rack, SERVER_ADDRESS};

const PORT: u16 = 9101;
/// The only access key that it knows.
pub const ACCESS_KEY: &str = "AKXPXETEST";
/// And its secret.
pub const SECRET_KEY: &str = "a-secret-that-no-log-has";
/// The only bucket.
pub const BUCKET: &str = "boot";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct S3 {
    /// The process.
    pub process: Process,
    dir: PathBuf,
}

impl S3 {
    /// Starts it in the server's namespace.
    pub fn start(rack: &Rack) -> Result<Self> {
        let dir = rack.dir().join("s3");
        fs::create_dir_all(dir.join(BUCKET))?;
        let mut command = rack.server.command("s3s-fs");
        let port = PORT.to_string();
        // Also for machines that fetch from it themselves.
        command.args(["--host", "0.0.0.0", "--port", &port]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]).arg(&dir);
        let process = rack.server.spawn(command).context("s3s-fs, which `cargo xtask setup` installs")?;
        rack.server.wait_for_listener(PORT, Duration::from_secs(30))?;
        Ok(Self { process, dir })
    }

    /// Puts an object into the bucket.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(BUCKET).join(key);
        fs::create_dir_all(path.parent().context("a key")?)?;
        Ok(fs::write(path, bytes)?)
    }
}

/// The same, from which machines fetch themselves, by URLs that are valid for a day.
pub fn presigned(rack: &Rack, access: &str, secret: &str) -> Result<String> {
    let table = upstream(rack, access, secret)?.replace("127.0.0.1", SERVER_ADDRESS);
    Ok(table + "presigned = \"24h\"\n")
}

/// Writes keys into their files, and gives the table of the configuration that names them.
pub fn upstream(rack: &Rack, access: &str, secret: &str) -> Result<String> {
    let at = |name: &str| rack.dir().join(name);
    fs::write(at("access"), format!("{access}\n"))?;
    fs::write(at("secret"), format!("{secret}\n"))?;
    fs::set_permissions(at("secret"), Permissions::from_mode(0o600))?;
    Ok(format!(
        "\n[[images.upstream]]\nurl = \"s3://{BUCKET}\"\nendpoint = \"http://127.0.0.1:{PORT}\"\n\
         access_key_file = {:?}\nsecret_key_file = {:?}\n",
        at("access"),
        at("secret")
    ))
}
