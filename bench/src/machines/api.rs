//! The daemon's API on its Unix socket, over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A silent daemon is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub(super) struct Api(BufReader<UnixStream>);

impl Api {
    pub(super) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request. Its answer is to be [read](Self::answer).
    pub(super) fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: xpxe\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).context("send a request")
    }

    /// The body of the answer to what was sent. An answer that is none of success is an error.
    pub(super) fn answer(&mut self) -> Result<Vec<u8>> {
        let (mut length, mut first) = (None, String::new());
        self.0.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the answer ended in its head");
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse::<usize>()?);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length.context("an answer without a length")?];
        self.0.read_exact(&mut body)?;
        if !first.contains(" 200 ") {
            bail!("{}: {}", first.trim_end(), String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        self.send(method, path, body)?;
        self.answer()
    }
}
