//! HTTP/1.1, or the same through TLS, to the one server that the agent talks to: a connection for each request, and no wait without an end.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::ClientConfig;

use crate::tls;

/// A server that is silent for so long is away.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of the head of an answer.
const LONGEST_HEAD: u64 = 16 << 10;
/// Bytes of an answer that is kept in memory.
const LONGEST_TEXT: u64 = 1 << 20;

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Its name or address, with its port.
    pub(crate) host: String,
    /// How it is known by HTTPS, if that is spoken.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// What is read and written.
trait Stream: Read + io::Write {}
impl<T: Read + io::Write> Stream for T {}

type Source = BufReader<Box<dyn Stream>>;

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) length: u64,
    body: io::Take<Source>,
}

impl Answer {
    /// The body, as it comes.
    pub(crate) fn into_body(self) -> impl Read {
        self.body
    }

    /// The body as text; an error if the status says that it is none.
    pub(crate) fn text(self) -> Result<String> {
        let (status, length) = (self.status, self.length);
        ensure!(length <= LONGEST_TEXT, "the answer has {length} bytes");
        let mut text = String::new();
        self.into_body().read_to_string(&mut text).context("read the answer")?;
        ensure!(text.len() as u64 == length, "the answer ended after {} of {length} bytes", text.len());
        if status != 200 {
            bail!(Refused { status, text: text.trim().to_owned() });
        }
        Ok(text)
    }
}

/// The server has understood, and says no.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server answers {}: {}", self.status, self.text)
    }
}

impl std::error::Error for Refused {}

/// Sends a request and reads the head of the answer.
pub(crate) fn request(origin: &Origin, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer> {
    let Origin { host, tls } = origin;
    let port = if tls.is_some() { 443 } else { 80 };
    let named = if host.contains(':') { host.clone() } else { format!("{host}:{port}") };
    let address = named.to_socket_addrs().with_context(|| format!("look up {named}"))?.next();
    let address = address.with_context(|| format!("{named} has no address"))?;
    let stream =
        TcpStream::connect_timeout(&address, CONNECT).with_context(|| format!("connect to {named}"))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(config) => Box::new(tls::begin(config, address.ip(), stream)?),
        None => Box::new(stream),
    };
    let (method, kind, body) = match body {
        Some((kind, body)) => {
            ("POST", format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()), body)
        }
        None => ("GET", String::new(), &[][..]),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{kind}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).context("send the request")?;
    read_head(BufReader::with_capacity(1 << 18, stream))
}

fn read_head(mut from: Source) -> Result<Answer> {
    let mut lines = Vec::new();
    let mut head = (&mut from).take(LONGEST_HEAD);
    loop {
        let mut line = String::new();
        let got = head.read_line(&mut line).context("read the head of the answer")?;
        ensure!(got > 0, "the answer has no end of its head");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (status, length) = parse_head(&lines)?;
    Ok(Answer { status, length, body: from.take(length) })
}

fn parse_head(lines: &[String]) -> Result<(u16, u64)> {
    let first = lines.first().context("the answer has no first line")?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status =
        status.and_then(|status| status.parse().ok()).with_context(|| format!("{first} is no answer"))?;
    let header = |wanted: &str| {
        let mut headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        headers.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    };
    let length = header("content-length").and_then(|length| length.parse().ok());
    Ok((status, length.context("the answer does not say how long it is")?))
}

#[cfg(test)]
mod tests;
