//! `[[webhook]]`: who is told of events by HTTP, as it stands in the file and as what it becomes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use super::event_kind::EventKind;
use super::reader::Table;
use super::report::{At, Place, Report, once};
use super::value::{absolute, choice};
use super::{name, value};

/// How often a delivery is tried unless the file says otherwise. With the pauses in between that is a quarter of an hour.
pub const DEFAULT_TRIES: u32 = 12;

/// `[[webhook]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `name`: what the log, the metrics and `xpxe webhooks` call it.
    pub name: String,
    /// `url`: where events are sent.
    pub url: WebhookUrl,
    /// `secret_file`: the secrets that deliveries are signed with, one a line.
    pub secret_file: PathBuf,
    /// `events`: the kinds of events that are sent; at least one.
    pub events: Vec<EventKind>,
    /// `labels`: only events of machines that have all of these.
    pub labels: BTreeMap<String, String>,
    /// `certificate`: the authorities (PEM) that have issued the receiver's certificate, beside those of the system.
    pub certificate: Option<PathBuf>,
    /// `tries`: how often a delivery is tried before it becomes a dead letter, 1 to 20. Default [`DEFAULT_TRIES`].
    pub tries: u32,
}

/// A URL that may have a password in it, and whose path may be one. Only its scheme, host and port are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// All of it, for who sends the request.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it has a user's password in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn place(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        format!("{scheme}://{}", host(rest))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}/…)", self.place())
    }
}

/// Host and port of what stands behind `://`.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The section as it stands in the file.
pub(super) struct Written {
    place: Place,
    name: Option<At<String>>,
    url: Option<At<String>>,
    secret_file: Option<At<String>>,
    events: Vec<At<String>>,
    has_events: bool,
    labels: Vec<(String, At<String>)>,
    certificate: Option<At<String>>,
    tries: Option<At<u32>>,
}

/// The sections in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Written> {
    let known = ["name", "url", "secret_file", "events", "labels", "certificate", "tries"];
    let tables = top.tables("webhook", &known, report);
    let written = |table: Table<'_>| Written {
        name: table.required_text("name", "chat", report),
        url: table.required_text("url", "https://hooks.example.net/xpxe", report),
        secret_file: table.required_text("secret_file", "/etc/xpxe/webhook.secret", report),
        events: table.one_or_more_texts("events", "state", report),
        has_events: table.has("events"),
        labels: table.free_texts("labels", "role = \"worker\"", report),
        certificate: table.text("certificate", "/etc/xpxe/ca.pem", report),
        tries: table.number("tries", 1..=20, "12", report),
        place: table.place,
    };
    tables.into_iter().map(written).collect()
}

/// The settings.
pub(super) fn check(written: &[Written], report: &mut Report<'_>) -> Vec<Webhook> {
    let words = EventKind::ALL.map(|kind| (kind.name(), kind));
    let mut names = HashMap::new();
    let mut webhooks = Vec::new();
    for from in written {
        let name = from.name.as_ref().and_then(|at| {
            let name = at.read(report, |text| name::profile(text).map_err(|_| not_a_name()))?;
            once(&mut names, name.clone(), at, "webhook", report);
            Some(name)
        });
        if !from.has_events {
            let example = "events = [\"state\", \"overdue\", \"power\"]";
            report.add(&from.place, format!("has no events; write {example}"));
        }
        let mut events = Vec::new();
        for at in &from.events {
            events.extend(at.read(report, |text| choice(text, &words)));
        }
        events.sort_unstable();
        events.dedup();
        let mut labels = BTreeMap::new();
        for (key, at) in &from.labels {
            labels.extend(at.read(report, |text| value::label(key, text)).map(|text| (key.clone(), text)));
        }
        let path = |at: &Option<At<String>>, report: &mut Report<'_>| {
            at.as_ref().and_then(|at| at.read(report, absolute))
        };
        let (secret_file, certificate) = (path(&from.secret_file, report), path(&from.certificate, report));
        let url = from.url.as_ref().and_then(|at| at.read(report, url));
        let tries = from.tries.as_ref().map_or(DEFAULT_TRIES, |at| at.value);
        if let (Some(name), Some(url), Some(secret_file)) = (name, url, secret_file) {
            webhooks.push(Webhook { name, url, secret_file, events, labels, certificate, tries });
        }
    }
    webhooks
}

fn not_a_name() -> String {
    "cannot be the name of a webhook; write 1 to 63 letters, digits, '.', '_' and '-', not beginning with '.' or '-'"
        .to_owned()
}

/// No message repeats the URL: it may have a secret in it, and messages are in logs.
fn url(text: &str) -> Result<WebhookUrl, String> {
    let wrong = |why: &str| Err(format!("{why}; write a URL such as \"https://hooks.example.net/xpxe\""));
    let Some((scheme, rest)) = text.split_once("://") else { return wrong("is no URL") };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return wrong("is neither http:// nor https://");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("has a space or a control character in it");
    }
    if host(rest).is_empty() || host(rest).starts_with(':') {
        return wrong("names no host");
    }
    Ok(WebhookUrl(format!("{}://{rest}", scheme.to_ascii_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_its_place_is_shown() {
        let secret = url("HTTPS://me:hunter2@hooks.example.net:8443/T0/B0/xoxb?k=v").unwrap();
        assert_eq!(secret.place(), "https://hooks.example.net:8443");
        assert_eq!(format!("{secret:?}"), "WebhookUrl(https://hooks.example.net:8443/…)");
        assert!(secret.reveal().starts_with("https://me:hunter2@"));
        for (text, why) in [
            ("hooks.example.net", "is no URL"),
            ("ftp://me:hunter2@h/", "neither http"),
            ("https://me:hunter2@/x", "names no host"),
            ("https://me:hunter2@h/a b", "has a space"),
        ] {
            let said = url(text).unwrap_err();
            assert!(said.contains(why) && !said.contains("hunter2"), "{text}: {said}");
        }
    }
}
