//! Asking a server of pixiecore's API what a machine boots: `GET PREFIX/v1/boot/MAC`, as pixiecore itself does.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use boot_engine::boot::told::Told;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use super::documents::readable;

/// For all of an answer, and for its turn.
const WITHIN: Duration = Duration::from_secs(5);
/// How often the log has that it does not answer.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const LARGEST: usize = 64 << 10;
/// How many are asked about at once: anybody can make up machines.
static TURNS: Semaphore = Semaphore::const_new(64);
static CLIENT: OnceLock<Client> = OnceLock::new();

/// The document of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    kernel: String,
    initrd: Vec<String>,
    cmdline: Option<String>,
    message: String,
    #[serde(rename = "ipxe-script")]
    script: String,
}

/// What the API says of the machine that this URL is about.
pub(super) async fn ask(url: &str) -> Told {
    let why = match timeout(WITHIN, answer(url)).await {
        Ok(Ok(told)) => return told,
        Ok(Err(why)) => format!("pixiecore_api: {why}"),
        Err(_) => format!("pixiecore_api: {url} has not answered in {} s", WITHIN.as_secs()),
    };
    tell(&why);
    Told::Unknown(why)
}

/// Each machine that waits asks again and again, so the log has it once in a while.
fn tell(why: &str) {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
        *told = Some(Instant::now());
        warn!("{}; machines wait and ask again", readable(why));
    }
}

async fn answer(url: &str) -> Result<Told, String> {
    let _turn = TURNS.acquire().await.map_err(|error| error.to_string())?;
    let client = match CLIENT.get() {
        Some(client) => client,
        None => {
            // Whoever was first has chosen the same.
            rustls::crypto::ring::default_provider().install_default().ok();
            let agent = concat!("xpxe/", env!("CARGO_PKG_VERSION"));
            let client = Client::builder().user_agent(agent).timeout(WITHIN).redirect(Policy::none()).build();
            let client = client.map_err(|error| format!("TLS cannot be prepared: {error}"))?;
            CLIENT.get_or_init(|| client)
        }
    };
    let mut answer =
        client.get(url).send().await.map_err(|error| format!("{url} does not answer: {error}"))?;
    if answer.status() != StatusCode::OK {
        return Ok(Told::No(format!("the server of pixiecore_api answers {}", answer.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| format!("{url} has stopped: {error}"))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST {
            return Err(format!("{url} answers with more than {LARGEST} bytes"));
        }
    }
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{url} answers with a document that is wrong: {error}"))?;
    let base: Url = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
    read(&base, document)
}

fn read(base: &Url, document: Document) -> Result<Told, String> {
    let Document { kernel, initrd, cmdline, message, script } = document;
    if !script.is_empty() {
        return Ok(Told::Script(script));
    }
    if kernel.is_empty() {
        return Err("the answer has neither kernel nor ipxe-script".to_owned());
    }
    let args = expand(base, &cmdline.unwrap_or_default())?;
    if args.contains(char::is_control) {
        return Err("cmdline has a control character".to_owned());
    }
    Ok(Told::Boot {
        kernel: absolute(base, &kernel)?,
        initrds: initrd.iter().map(|path| absolute(base, path)).collect::<Result<_, _>>()?,
        args,
        message: message.chars().filter(|c| !c.is_control()).take(200).collect(),
    })
}

/// A path is one of the API's server, whatever the prefix is.
fn absolute(base: &Url, path: &str) -> Result<String, String> {
    let url = base.join(path).map_err(|error| format!("{path:?} is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url.into()),
        other => {
            Err(format!("{other}:// is not fetched by machines: have the API say an http:// or https:// URL"))
        }
    }
}

/// Of Go's templates what the API has: `{{ URL "…" }}`, and a text in quotes, which stands for itself.
fn expand(base: &Url, cmdline: &str) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), cmdline);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = end_of_action(after).ok_or("cmdline has {{ without }}")?;
        let quoted = |text: &str| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned());
        let action = action.trim();
        text += before;
        text += &match (quoted(action), action.strip_prefix("URL").and_then(|path| quoted(path.trim()))) {
            (Some(literal), _) => literal,
            (None, Some(path)) => absolute(base, &path)?,
            (None, None) => return Err(format!("cmdline has {action:?} in a template: only URL is known")),
        };
        rest = after;
    }
    Ok(text + rest)
}

/// An action, and what is behind it; `}}` in quotes ends none.
fn end_of_action(text: &str) -> Option<(&str, &str)> {
    let mut is_quoted = false;
    let end = text.char_indices().find(|(at, c)| {
        is_quoted ^= *c == '"';
        !is_quoted && text.get(*at..).is_some_and(|rest| rest.starts_with("}}"))
    });
    let (at, _) = end?;
    Some((text.get(..at)?, text.get(at + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_the_api_is_what_pixiecore_makes_of_it() {
        let base: Url = "http://api.example/prefix/v1/boot/52:54:00:00:00:01".parse().unwrap();
        let told = |text: &str| read(&base, serde_json::from_str(text).unwrap());
        let found = told(
            r#"{ "kernel": "/kernel", "initrd": ["/i.0", "https://h/i.1"], "message": "m",
                 "cmdline": "a={{ URL \"/cfg\" }} b={{\"{{\"}} c" }"#,
        );
        let expected = Told::Boot {
            kernel: "http://api.example/kernel".to_owned(),
            initrds: vec!["http://api.example/i.0".to_owned(), "https://h/i.1".to_owned()],
            args: "a=http://api.example/cfg b={{ c".to_owned(),
            message: "m".to_owned(),
        };
        assert_eq!(found, Ok(expected));
        let script = "#!ipxe\nshell\n";
        let found = told(&format!(r#"{{ "ipxe-script": {script:?} }}"#));
        assert_eq!(found, Ok(Told::Script(script.to_owned())));
        for (wrong, why) in [
            ("{}", "neither kernel nor ipxe-script"),
            (r#"{ "kernel": "file:///etc/shadow" }"#, "not fetched by machines"),
            (r#"{ "kernel": "/k", "cmdline": "{{ ID 1 }}" }"#, "only URL is known"),
            (r#"{ "kernel": "/k", "cmdline": "{{ URL \"x\" " }"#, "without }}"),
            (r#"{ "kernel": "/k", "cmdline": "a\nboot" }"#, "control character"),
        ] {
            let said = told(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }
}
