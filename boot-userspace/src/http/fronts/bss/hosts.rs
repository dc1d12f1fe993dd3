//! Whom a request means.

use std::collections::{HashMap, HashSet};

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::plan::Asked;
use boot_engine::machines::Known;

use super::super::Call;
use super::problem;

/// How many hosts one request may name: as many as a row of racks has.
const MOST: usize = 1000;

/// Whom a request means, in the order of the service: MACs, names, node numbers.
#[derive(Default)]
pub(super) struct Hosts {
    macs: Vec<String>,
    pub(super) names: Vec<String>,
    nids: Vec<String>,
    /// Everything else in the query.
    more: Vec<(String, String)>,
}

/// How many hosts a request names.
#[derive(Debug)]
pub(super) struct TooMany(usize);

impl TooMany {
    pub(super) fn answer(&self) -> Response {
        let why = format!("{} hosts are named; ask for at most {MOST} at once", self.0);
        problem(StatusCode::BAD_REQUEST, &why)
    }
}

/// One that a request means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Mac(String),
    Name(String),
    Nid(String),
}

/// One that a request means, and the machine that has this name or number.
pub(super) struct Meant {
    pub(super) host: Host,
    known: Option<Known>,
}

impl Hosts {
    /// # Errors
    /// It names too many.
    pub(super) fn of(call: &Call<'_>) -> Result<Self, TooMany> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(&call.request.uri).unwrap_or_default();
        let mut hosts = Self::default();
        for (key, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            let list = match key.as_str() {
                "mac" => &mut hosts.macs,
                "name" => &mut hosts.names,
                "nid" => &mut hosts.nids,
                _ => {
                    hosts.more.push((key, value));
                    continue;
                }
            };
            list.extend(value.split(',').map(str::to_owned));
        }
        match hosts.macs.len() + hosts.names.len() + hosts.nids.len() {
            count if count > MOST => Err(TooMany(count)),
            _ => Ok(hosts),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.macs.is_empty() && self.names.is_empty() && self.nids.is_empty()
    }

    pub(super) fn more(&self, key: &str) -> Option<&str> {
        self.more.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Each once. Machines are gone through once for all of them.
    pub(super) fn all(self, call: &Call<'_>) -> Vec<Meant> {
        let macs = self.macs.into_iter().map(Host::Mac);
        let names = self.names.into_iter().map(Host::Name);
        let mut met = HashSet::new();
        let hosts: Vec<Host> = macs
            .chain(names)
            .chain(self.nids.into_iter().map(Host::Nid))
            .filter(|host| met.insert(host.clone()))
            .collect();
        let wanted: HashSet<Host> = hosts.iter().filter_map(Host::sought).collect();
        let mut found: HashMap<Host, Known> = HashMap::new();
        if !wanted.is_empty() {
            for known in call.site.machines.all() {
                let name = known.machine.name.as_ref().map(|name| Host::Name(name.to_ascii_lowercase()));
                let nid = known.machine.labels.get("nid").cloned().map(Host::Nid);
                for own in [name, nid].into_iter().flatten().filter(|own| wanted.contains(own)) {
                    found.entry(own).or_insert_with(|| known.clone());
                }
            }
        }
        let meant = |host: Host| {
            let known = host.sought().and_then(|sought| found.get(&sought)).cloned();
            Meant { host, known }
        };
        hosts.into_iter().map(meant).collect()
    }
}

impl Host {
    /// What machines are gone through for: names in lower case, and numbers.
    fn sought(&self) -> Option<Self> {
        match self {
            Self::Mac(_) => None,
            Self::Name(name) => Some(Self::Name(name.to_ascii_lowercase())),
            Self::Nid(nid) => Some(Self::Nid(nid.clone())),
        }
    }

    /// As the service says whom it does not know.
    pub(super) fn unknown(&self) -> String {
        match self {
            Self::Mac(mac) => format!("Not Found - Unknown MAC address '{mac}'"),
            Self::Name(name) => format!("Not Found - Unknown host name '{name}'"),
            Self::Nid(nid) => format!("Not Found - Unknown NID '{nid}'"),
        }
    }
}

impl Meant {
    /// Who asks about this machine. None if there is none of that name or number: a MAC may be an unknown machine's.
    pub(super) fn asked(&self, call: &Call<'_>) -> Option<Asked> {
        if let Host::Mac(mac) = &self.host {
            return mac.parse().ok().map(|mac| call.asked_for(mac));
        }
        let known = self.known.as_ref()?;
        let mac = known.machine.macs.first().copied();
        let asker = call.site.machines.asker(call.ends.client.ip(), mac, known.machine.uuid);
        // A machine that is known by neither, and asks from an address that is another one's.
        let is_it = asker.known.as_ref().is_some_and(|found| found.id == known.id);
        is_it.then(|| Asked { mac, ..call.asked_by(asker) })
    }
}
