//! What the service lists: hosts, their boot parameters, and who has asked for its script.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::plan::{Asked, BootPlan, NoScript};
use boot_engine::config::{Machine, Unknown};
use boot_engine::machines::Asker;
use serde_json::{Map, Value, json};

use super::super::{Call, json, refused};
use super::hosts::{Host, Hosts};
use super::script::{boots, parameters};
use super::{JSON, name_of, number, problem};
use crate::host::clock;

/// When each machine of the configuration has had its script, in Unix seconds. Forgotten when xpxe ends.
#[derive(Debug, Default)]
pub struct History(Mutex<BTreeMap<String, u64>>);

impl History {
    pub(super) fn note(&self, name: &str) {
        let now = clock::wall().as_secs();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.insert(name.to_owned(), now);
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn boot_parameters(call: &Call<'_>) -> Response {
    let hosts = match Hosts::of(call) {
        Ok(hosts) => hosts,
        Err(too_many) => return too_many.answer(),
    };
    if hosts.is_empty() {
        return all_or_refuse(call, || Value::from(all_parameters(call)));
    }
    let mut found = Vec::new();
    for meant in hosts.all(call) {
        let host = &meant.host;
        let asked = match host {
            Host::Name(name) if is_tag(name) => tagged(call, name),
            _ => meant.asked(call).map(|asked| as_reader(call, asked)),
        };
        let plan = asked.as_ref().map(|asked| boots(call.site.scripts.plan(asked)));
        match (asked, plan) {
            (Some(asked), Some(Ok(plan))) => found.push(entry(host, &asked, &plan)),
            (Some(asked), Some(Err(no_script @ NoScript::OfAnother { .. }))) => {
                let (status, why) = refused(&no_script);
                call.tell(&asked, &Err(no_script));
                return problem(status, &why);
            }
            _ => {}
        }
    }
    match found.is_empty() {
        true => problem(StatusCode::NOT_FOUND, "Cannot find boot parameters for what was requested"),
        false => json(StatusCode::OK, JSON, &Value::from(found)),
    }
}

pub(super) fn hosts(call: &Call<'_>) -> Response {
    let hosts = match Hosts::of(call) {
        Ok(hosts) => hosts,
        Err(too_many) => return too_many.answer(),
    };
    if hosts.is_empty() {
        return all_or_refuse(call, || components(call));
    }
    let mut found = Vec::new();
    for meant in hosts.all(call) {
        let asked = meant.asked(call).map(|asked| as_reader(call, asked));
        let Some((asked, known)) = asked.and_then(|asked| Some((asked.clone(), asked.asker.known?))) else {
            return problem(StatusCode::NOT_FOUND, &meant.host.unknown());
        };
        if let Err(no_script @ NoScript::OfAnother { .. }) = call.site.scripts.plan(&asked) {
            let (status, why) = refused(&no_script);
            call.tell(&asked, &Err(no_script));
            return problem(status, &why);
        }
        found.push(component(&known.machine));
    }
    json(StatusCode::OK, JSON, &Value::from(found))
}

pub(super) fn dump_state(call: &Call<'_>) -> Response {
    all_or_refuse(call, || json!({ "Components": components(call), "Params": all_parameters(call) }))
}

pub(super) fn endpoint_history(call: &Call<'_>) -> Response {
    let hosts = match Hosts::of(call) {
        Ok(hosts) => hosts,
        Err(too_many) => return too_many.answer(),
    };
    let of_endpoint = hosts.more("endpoint").is_none_or(|endpoint| endpoint == "bootscript");
    let is_meant = |name: &String| hosts.names.is_empty() || hosts.names.contains(name);
    all_or_refuse(call, || {
        let times = call.site.history.all().into_iter().filter(|(name, _)| of_endpoint && is_meant(name));
        times
            .map(|(name, time)| json!({ "name": name, "endpoint": "bootscript", "last_epoch": time }))
            .collect()
    })
}

fn all_or_refuse(call: &Call<'_>, list: impl FnOnce() -> Value) -> Response {
    match call.may_read_all() {
        true => json(StatusCode::OK, JSON, &list()),
        false => {
            let why = format!(
                "{} may not read all machines at once: it is not in inventory_clients of [http]; ask with mac= or name= for \
                 one's own",
                call.ends.client.ip()
            );
            problem(StatusCode::FORBIDDEN, &why)
        }
    }
}

/// Who may read everything may read each.
fn as_reader(call: &Call<'_>, asked: Asked) -> Asked {
    match asked.asker.known.clone() {
        Some(known) if call.may_read_all() => call.asked_by_reader(known),
        _ => asked,
    }
}

fn all_parameters(call: &Call<'_>) -> Vec<Value> {
    let machines = call.site.machines.all().into_iter().filter_map(|known| {
        let asked = call.asked_by_reader(known);
        let plan = boots(call.site.scripts.plan(&asked)).ok()?;
        let host = Host::Name(name_of(&asked)?);
        Some(entry(&host, &asked, &plan))
    });
    let tags = ["Default", "Unknown-x86_64", "Unknown-arm64"].into_iter().filter_map(|name| {
        let asked = tagged(call, name)?;
        let plan = boots(call.site.scripts.plan(&asked)).ok()?;
        Some(entry(&Host::Name(name.to_owned()), &asked, &plan))
    });
    tags.chain(machines).collect()
}

fn is_tag(name: &str) -> bool {
    name == "Default" || name.starts_with("Unknown-")
}

/// What stands for machines without parameters of their own: `[default]`.
fn tagged(call: &Call<'_>, name: &str) -> Option<Asked> {
    let arch = name.strip_prefix("Unknown-");
    if arch.is_some() && call.config.default.unknown != Unknown::Boot {
        return None;
    }
    Some(Asked { arch: arch.map(str::to_owned), ..call.asked_by(Asker::default()) })
}

fn entry(host: &Host, asked: &Asked, plan: &BootPlan) -> Value {
    let (kernel, initrd, params) = parameters(asked, plan);
    let mut entry = Map::new();
    let (key, value) = match (name_of(asked), host) {
        (Some(name), _) => ("hosts", name),
        (None, Host::Mac(mac)) => ("macs", mac.clone()),
        (None, Host::Name(name) | Host::Nid(name)) => ("hosts", name.clone()),
    };
    entry.insert(key.to_owned(), json!([value]));
    entry.insert("params".to_owned(), params.into());
    entry.insert("kernel".to_owned(), kernel.into());
    entry.extend(initrd.map(|initrd| ("initrd".to_owned(), initrd.into())));
    // As the service has it where there is nothing for cloud-init.
    let nobody = json!({
        "pub_key_dsa": "", "pub_key_rsa": "", "pub_key_ecdsa": "", "instance_id": "", "hostname": "", "fqdn": ""
    });
    let cloud_init = json!({ "meta-data": null, "user-data": null, "phone-home": nobody });
    entry.insert("cloud-init".to_owned(), cloud_init);
    Value::from(entry)
}

fn components(call: &Call<'_>) -> Value {
    let named = call.site.machines.all().into_iter().filter(|known| known.machine.name.is_some());
    named.map(|known| component(&known.machine)).collect()
}

fn component(machine: &Machine) -> Value {
    let label = |key: &str| machine.labels.get(key);
    let mut component = Map::new();
    component.insert("ID".to_owned(), machine.name.clone().into());
    component.insert("Type".to_owned(), "Node".into());
    component.insert("Enabled".to_owned(), true.into());
    component.extend(label("role").map(|role| ("Role".to_owned(), role.clone().into())));
    component.extend(label("nid").and_then(|nid| Some(("NID".to_owned(), number(nid)?))));
    component.insert("FQDN".to_owned(), "".into());
    let macs: Vec<String> = machine.macs.iter().map(ToString::to_string).collect();
    component.insert("MAC".to_owned(), macs.into());
    component.insert("EndpointEnabled".to_owned(), true.into());
    Value::from(component)
}
