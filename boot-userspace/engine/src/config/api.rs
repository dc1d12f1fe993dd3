//! `[api]`: the API and the dashboard over TCP, for people.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::address;
use super::http::Tls;
use super::reader::Table;
use super::report::{At, Place, Report, one};
use super::value;

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `listen`: where it listens; a loopback address unless there is `certificate` and `key`.
    pub listen: SocketAddr,
    /// `certificate` and `key`: it speaks HTTPS with these. Default: HTTP.
    pub tls: Option<Tls>,
    /// `public_read`: who has no token may read the dashboard: machines' names, labels, boots and verdicts. Default false.
    pub public_read: bool,
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    place: Option<Place>,
    listen: Option<At<String>>,
    certificate: Option<At<String>>,
    key: Option<At<String>>,
    public_read: Option<At<bool>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let known = ["listen", "certificate", "key", "public_read"];
    let Some(api) = top.table("api", &known, report) else { return Written::default() };
    Written {
        listen: api.required_text("listen", "127.0.0.1:8081", report),
        certificate: api.text("certificate", "/etc/xpxe/tls.pem", report),
        key: api.text("key", "/etc/xpxe/tls.key", report),
        public_read: api.flag_at("public_read", report),
        place: Some(api.place),
    }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        self.place = self.place.take().or(more.place);
        one(&mut self.listen, more.listen, report);
        one(&mut self.certificate, more.certificate, report);
        one(&mut self.key, more.key, report);
        one(&mut self.public_read, more.public_read, report);
    }
}

/// The settings; none without the section. `http` are the ports that are taken.
pub(super) fn check(from: &Written, http: &[SocketAddr], report: &mut Report<'_>) -> Option<Api> {
    let place = from.place.as_ref()?;
    let listen = from.listen.as_ref().and_then(|at| {
        at.read(report, |text| {
            let listen = address::listen(text)?;
            if http.iter().any(|other| other.port() == listen.port()) {
                return Err(format!("{listen} has a port of [http]; write another one, such as 8081"));
            }
            if from.certificate.is_none() && !listen.ip().is_loopback() {
                return Err(format!(
                    "tokens would cross the network in clear text; name certificate and key for {listen}, or write \
                     \"127.0.0.1:{}\" and put a proxy with HTTPS before it",
                    listen.port()
                ));
            }
            Ok(listen)
        })
    });
    let mut path = |at: &Option<At<String>>| at.as_ref().and_then(|at| at.read(report, value::absolute));
    let (certificate, key) = (path(&from.certificate), path(&from.key));
    if from.certificate.is_some() != from.key.is_some() {
        report.add(place, "certificate and key belong together; name both, or none of them".to_owned());
    }
    let listen = listen?;
    let tls =
        certificate.zip(key).map(|(certificate, key): (PathBuf, PathBuf)| Tls { listen, certificate, key });
    Some(Api { listen, tls, public_read: from.public_read.as_ref().is_some_and(|at| at.value) })
}
