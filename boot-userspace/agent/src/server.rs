//! The server that the machine was booted from.

use std::io::Read;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use boot_agent_protocol::{Inventory, Progress, SERVER_KEY, Task};

use crate::console::say;
use crate::http::{self, Origin, Refused};
use crate::tls::{self, OtherKey};

/// A server that is away is asked for so long, every so often.
const PATIENCE: Duration = Duration::from_secs(1800);
const AGAIN: Duration = Duration::from_secs(5);

/// Where it is, and the path with the token of this boot.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    origin: Origin,
    base: String,
}

impl Server {
    /// By the URL in the kernel's command line, and by its key there if that is HTTPS.
    pub(crate) fn at(url: &str, key: Option<&str>) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let tls = match (scheme, key) {
            ("http", _) => None,
            ("https", Some(key)) => Some(tls::config(key)?),
            ("https", None) => bail!(
                "the server is reached by HTTPS, and nothing tells its key: write {SERVER_KEY}{{{{ agent_key }}}} into args of the profile"
            ),
            _ => bail!("the agent speaks HTTP and HTTPS, and its URL begins otherwise: {}", hidden(url)),
        };
        let (host, path) = rest.split_once('/').context("the URL has no path")?;
        ensure!(
            path.ends_with('/') && path.starts_with("agent/"),
            "the URL is none of the agent's: {}",
            hidden(url)
        );
        Ok(Self { origin: Origin { host: host.to_owned(), tls }, base: format!("/{path}") })
    }

    pub(crate) fn send_inventory(&self, inventory: &Inventory) -> Result<()> {
        let body = serde_json::to_vec(inventory)?;
        self.patiently("inventory", Some(("application/json", &body))).map(drop)
    }

    pub(crate) fn task(&self) -> Result<Task> {
        let text = self.patiently("task", None)?;
        serde_json::from_str(&text).with_context(|| format!("this agent does not know what to do: {text}"))
    }

    /// How far it is. Nobody waits for that.
    pub(crate) fn tell(&self, progress: &Progress) {
        let Ok(body) = serde_json::to_vec(progress) else { return };
        let told = http::request(&self.origin, &self.path("progress"), Some(("application/json", &body)));
        drop(told.and_then(http::Answer::text));
    }

    pub(crate) fn report(&self, task: &str, end: &Result<String>) -> Result<()> {
        let (status, text) = match end {
            Ok(text) => ("success", text.clone()),
            Err(error) => ("failure", format!("{error:#}")),
        };
        let form = format!("task={task}&status={status}&text={}", encoded(&text));
        self.patiently("report", Some(("application/x-www-form-urlencoded", form.as_bytes()))).map(drop)
    }

    /// A file of this server, with its length.
    pub(crate) fn fetch(&self, url: &str) -> Result<(impl Read + use<>, u64)> {
        let scheme = if self.origin.tls.is_some() { "https://" } else { "http://" };
        let path = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(&self.origin.host));
        let path = path.filter(|path| path.starts_with('/'));
        let path = path.with_context(|| {
            format!(
                "the agent talks to {scheme}{} only, and was told to fetch {}",
                self.origin.host,
                hidden(url)
            )
        })?;
        let answer = http::request(&self.origin, path, None)?;
        if answer.status != 200 {
            answer.text().context("fetch the image")?;
            bail!("the image cannot be fetched");
        }
        let length = answer.length;
        Ok((answer.into_body(), length))
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    /// Asks until there is an answer: the server may be restarted meanwhile. What it refuses stays refused, unless it is only
    /// too early (429, RFC 6585 section 4).
    fn patiently(&self, name: &str, body: Option<(&str, &[u8])>) -> Result<String> {
        let began = Instant::now();
        loop {
            let answer = http::request(&self.origin, &self.path(name), body).and_then(http::Answer::text);
            let error = match answer {
                Ok(text) => return Ok(text),
                Err(error) => error.context(format!("{name} at {}", self.origin.host)),
            };
            let is_final = error
                .downcast_ref::<Refused>()
                .is_some_and(|refused| refused.status < 500 && refused.status != 429)
                || error.is::<OtherKey>();
            if is_final || began.elapsed() > PATIENCE {
                return Err(error);
            }
            say!("{error:#}; it is asked again in {} s", AGAIN.as_secs());
            sleep(AGAIN);
        }
    }
}

/// A URL without the token in it: consoles are logged.
pub(crate) fn hidden(url: &str) -> String {
    url.split('/').map(|part| if part.starts_with("t-") { "t-…" } else { part }).collect::<Vec<_>>().join("/")
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_only_server() {
        let at = |url: &str| Server::at(url, None);
        let server = at("http://10.1.0.2:8080/agent/52-54-00-00-00-01/t-00/").unwrap();
        assert_eq!(
            (server.origin.host.as_str(), server.path("task").as_str()),
            ("10.1.0.2:8080", "/agent/52-54-00-00-00-01/t-00/task")
        );
        for url in
            ["https://10.1.0.2/agent/x/", "http://10.1.0.2", "http://10.1.0.2/files/", "http://h/agent/x", ""]
        {
            assert!(at(url).is_err(), "{url}");
        }
        for url in [
            "http://10.1.0.3:8080/x",
            "http://10.1.0.2:80801/x",
            "http://10.1.0.2:8080@evil/x",
            "https://10.1.0.2:8080/x",
        ] {
            let error = server.fetch(url).err().unwrap().to_string();
            assert!(error.contains("talks to http://10.1.0.2:8080 only"), "{url}: {error}");
        }
    }

    #[test]
    fn by_https_the_server_is_known_by_its_key() {
        let url = "https://10.1.0.2:8443/agent/52-54-00-00-00-01/t-00/";
        let key = format!("sha256:{}", "0a".repeat(32));
        let server = Server::at(url, Some(&key)).unwrap();
        assert!(server.fetch("http://10.1.0.2:8443/files/x").is_err(), "the image comes in the same way");
        for (key, says) in [(None, "write xpxe.key={{ agent_key }}"), (Some("sha256:0a"), "64 hexadecimal")] {
            let said = format!("{:#}", Server::at(url, key).unwrap_err());
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn no_console_shows_a_token() {
        assert_eq!(hidden("http://h/agent/self/t-0123/"), "http://h/agent/self/t-…/");
        assert_eq!(encoded("no disk: ä&x"), "no%20disk%3A%20%C3%A4%26x");
    }
}
