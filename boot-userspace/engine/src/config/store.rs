//! `store` and `store_password_file`: where machines and leases are kept beside `state_dir`.

use std::fmt;
use std::path::PathBuf;

use super::report::{At, Report};
use super::value;

/// What may stand behind the `?` of a URL. The library that connects writes others to the log, with their values.
const PARAMETERS: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "options",
];

/// A PostgreSQL database that has the machines and the leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// `store`: where it is. It has no password.
    pub url: String,
    /// `store_password_file`: a file with the password. Default: none, PostgreSQL's own ways count (`PGPASSWORD`,
    /// `PGPASSFILE`, peer and trust).
    pub password_file: Option<PathBuf>,
}

impl fmt::Display for Postgres {
    /// The host with its port or socket, and the database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, database) = place.split_once('/').unwrap_or((place, ""));
        let socket = query.split('&').find_map(|pair| pair.strip_prefix("host="));
        let host = match socket.unwrap_or(host) {
            "" => "the local socket",
            host => host,
        };
        write!(f, "PostgreSQL on {host}")?;
        if database.is_empty() { Ok(()) } else { write!(f, " (database {database})") }
    }
}

/// What the file says of it; none: everything is in `state_dir`.
pub(super) fn check(
    store: Option<&At<String>>,
    password_file: Option<&At<String>>,
    report: &mut Report<'_>,
) -> Option<Postgres> {
    let read_url = store.and_then(|at| at.read(report, url));
    let read_file = password_file.and_then(|at| at.read(report, value::absolute));
    if let (None, Some(at)) = (store, password_file) {
        let message =
            "is of no use without store; write store = \"postgres://xpxe@db.example/xpxe\", or remove it";
        report.add(&at.place, message);
    }
    Some(Postgres { url: read_url?, password_file: read_file })
}

/// No message repeats the text: it may have a password.
fn url(text: &str) -> Result<String, String> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let Some(rest) = rest else {
        return Err(
            "is no PostgreSQL database; write store = \"postgres://xpxe@db.example/xpxe\", or leave it \
                    out to keep everything in state_dir"
                .to_owned(),
        );
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = place.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || query.split('&').any(|pair| pair.starts_with("password=")) {
        return Err(
            "has a password, which everybody can read who reads this file; write the password to a file \
                    of its own, and store_password_file = \"/etc/xpxe/store-password\""
                .to_owned(),
        );
    }
    if place.starts_with('@') || place.contains("@/") {
        return Err("names a user and no host; for a socket write store = \"postgres://xpxe@localhost/xpxe?host=/run/postgresql\""
            .to_owned());
    }
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err("has a space; write store = \"postgres://xpxe@db.example/xpxe\"".to_owned());
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // Without its sign of equality it may be a piece of a value.
        let (name, _) = pair.split_once('=').unwrap_or_default();
        if !PARAMETERS.contains(&name) && !is_option(name) {
            let what = if name.is_empty() { "a parameter without a name or a value" } else { name };
            return Err(format!(
                "has {what} behind the ?, which xpxe does not know; remove it, or write one of {}",
                PARAMETERS.join(", ")
            ));
        }
    }
    Ok(text.to_owned())
}

/// Whether it sets one of the server's options: `options[work_mem]`.
fn is_option(name: &str) -> bool {
    name.strip_prefix("options[").is_some_and(|rest| rest.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_called_by_its_host_and_its_name() {
        for (url, called) in [
            ("postgres://xpxe@db.example/boot", "PostgreSQL on db.example (database boot)"),
            ("postgresql://db.example:5433", "PostgreSQL on db.example:5433"),
            (
                "postgres://xpxe@localhost/boot?host=/run/pg&sslmode=disable",
                "PostgreSQL on /run/pg (database boot)",
            ),
            ("postgres:///boot", "PostgreSQL on the local socket (database boot)"),
            ("postgres://db/boot?options[work_mem]=4MB&", "PostgreSQL on db (database boot)"),
        ] {
            let found = Postgres { url: super::url(url).unwrap(), password_file: None };
            assert_eq!(found.to_string(), called);
        }
    }

    #[test]
    fn a_password_belongs_in_a_file_and_no_message_repeats_it() {
        for (text, says) in [
            ("postgres://xpxe:geheim@db/x", "has a password"),
            ("postgres://db/x?password=geheim", "has a password"),
            ("mysql://xpxe:geheim@db/x", "is no PostgreSQL database"),
            ("postgres://geheim @db/x", "has a space"),
            ("postgres://geheim@/x", "names a user and no host"),
            ("postgres://db/x?sslmode=require&pasword=geheim", "has pasword behind the ?"),
            ("postgres://db/x?sslpassword=geheim", "has sslpassword behind the ?"),
            ("postgres://db/x?connect_timeout=geheim", "remove it, or write one of sslmode, "),
            ("postgres://db/x?geheim", "has a parameter without a name or a value"),
        ] {
            let said = url(text).unwrap_err();
            assert!(said.contains(says) && !said.contains("geheim"), "{said}");
        }
    }
}
