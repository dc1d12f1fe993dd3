//! The beginning of a file by HTTP, as firmware and iPXE fetch it: no redirection is followed, no name is cached.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long one step may take, and reading a file.
const PATIENCE: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(8);
/// How long all files of a script may take, with their names, which a resolver may look up for longer.
const TOGETHER: Duration = Duration::from_secs(15);
/// As much is read as tells what a file is, or is a script.
const MOST: usize = 64 << 10;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Content-Length`, if it is there.
    pub(super) length: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// The beginnings of several files, which are fetched at once.
pub(super) fn fetch_all<'u>(
    urls: impl IntoIterator<Item = &'u str>,
) -> BTreeMap<String, Result<Answer, String>> {
    together(urls, TOGETHER, fetch)
}

/// What `fetch` gives for each of them, as far as that comes in time.
fn together<'u, T: Send + 'static>(
    urls: impl IntoIterator<Item = &'u str>,
    within: Duration,
    fetch: impl Fn(&str) -> Result<T, String> + Clone + Send + 'static,
) -> BTreeMap<String, Result<T, String>> {
    let (tell, told) = mpsc::channel();
    let mut found = BTreeMap::new();
    let until = Instant::now() + within;
    for url in urls {
        let late = Err(format!("nothing came within {} s", within.as_secs()));
        if found.insert(url.to_owned(), late).is_some() {
            continue;
        }
        let (url, tell, fetch) = (url.to_owned(), tell.clone(), fetch.clone());
        // One that hangs ends with the process.
        thread::spawn(move || {
            let fetched = fetch(&url);
            drop(tell.send((url, fetched)));
        });
    }
    drop(tell);
    while let Ok((url, fetched)) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
        found.insert(url, fetched);
    }
    found
}

/// Fetches the beginning.
///
/// # Errors
/// One sentence.
fn fetch(url: &str) -> Result<Answer, String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err("only http:// is looked at".to_owned());
    };
    // Whoever answered DHCP would write more than one request with it.
    if url.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(
            "a space, a line break or another control character is in it, which no URL has".to_owned()
        );
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addresses = with_port.to_socket_addrs().map_err(|error| format!("{host} has no address: {error}"))?;
    let address = addresses.into_iter().next().ok_or_else(|| format!("{host} has no address"))?;
    if is_machine_itself(address.ip()) {
        return Err(format!("{address} is the machine itself, and no server"));
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what} {address}: {}", plain(&error))
    };
    let started = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed("cannot connect to"))?;
    let none =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    none.map_err(failed("cannot use"))?;
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: xpxe-preflight\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed("cannot write to"))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    while bytes.len() < MOST && started.elapsed() < LONGEST {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend(buffer.get(..length).unwrap_or_default()),
            Err(error) if bytes.is_empty() => return Err(failed("no answer from")(error)),
            Err(_) => break,
        }
        if body(&bytes)
            .is_some_and(|(head, body)| length_of(head).is_some_and(|length| body.len() as u64 >= length))
        {
            break;
        }
    }
    let (head, body) = body(&bytes).ok_or_else(|| format!("{address} does not speak HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("{address} does not speak HTTP"))?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { first_chunks(body) } else { body.to_vec() };
    Ok(Answer { status, length: length_of(head), body })
}

/// Addresses that lead whoever uses them to itself: here they would lead to what only this host may use.
pub(super) fn is_machine_itself(address: impl Into<IpAddr>) -> bool {
    let address = address.into().to_canonical();
    address.is_loopback() || address.is_unspecified()
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "nothing came in time".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody serves that port".to_owned(),
        _ => error.to_string(),
    }
}

fn body(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at(end);
    Some((std::str::from_utf8(head).ok()?, rest.get(4..).unwrap_or_default()))
}

fn length_of(head: &str) -> Option<u64> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    };
    head.lines().find_map(value)
}

fn first_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = rest.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let size = size.and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let data = rest.get(end + 2..).unwrap_or_default();
        whole.extend(data.iter().take(size));
        rest = data.get(size.saturating_add(2)..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn nothing_is_sent_for_a_url_that_has_more_than_a_url_or_leads_to_this_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for path in ["a\r\nHost: b", "a\nb", "a b", "a\u{85}b"] {
            let why = fetch(&format!("http://127.0.0.1:{port}/{path}")).unwrap_err();
            assert!(why.contains("which no URL has"), "{path:?}: {why}");
        }
        for host in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"] {
            let why = fetch(&format!("http://{host}:{port}/a")).unwrap_err();
            assert!(why.contains("is the machine itself"), "{host}: {why}");
        }
        assert!(listener.accept().is_err(), "somebody has connected");
    }

    #[test]
    fn files_are_fetched_at_once_and_one_that_hangs_holds_up_no_other() {
        let all_are_there = Arc::new(Barrier::new(3));
        let fetch = move |url: &str| {
            all_are_there.wait();
            if url == "hangs" {
                // As a resolver without an answer: until the process ends.
                loop {
                    thread::park();
                }
            }
            Ok::<_, String>(url.len())
        };
        let found = together(["a", "hangs", "bb", "a"], Duration::from_secs(2), fetch);
        let late = Err("nothing came within 2 s".to_owned());
        let expected = [("a", Ok(1)), ("bb", Ok(2)), ("hangs", late)];
        assert_eq!(found, expected.map(|(url, fetched)| (url.to_owned(), fetched)).into());
    }

    #[test]
    fn a_chunk_is_no_longer_than_what_came() {
        assert_eq!(first_chunks(b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(first_chunks(b"ffffffffffffffff\r\nabc\r\n"), b"abc\r\n");
    }
}
