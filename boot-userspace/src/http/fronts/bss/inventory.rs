//! What the service lists: hosts, their boot parameters, and who has asked for its script.

use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::parameters::{DEFAULT, Parameters, Table, Target, UNKNOWN};
use boot_engine::boot::plan::{Asked, BootPlan, NoScript};
use boot_engine::boot::url;
use boot_engine::config::{Machine, Unknown};
use boot_engine::machines::Asker;
use serde_json::{Map, Value, json};

use super::super::{Call, json, refused};
use super::history::Endpoint;
use super::hosts::{Host, Hosts};
use super::script::boots;
use super::{JSON, name_of, number, problem};

pub(super) fn boot_parameters(call: &Call<'_>) -> Response {
    let hosts = match Hosts::of(call) {
        Ok(hosts) => hosts,
        Err(too_many) => return too_many.answer(),
    };
    if hosts.is_empty() {
        return all_or_refuse(call, || Value::from(all_parameters(call)));
    }
    let table = call.site.boot_parameters.table.get();
    let mut found = Vec::new();
    for meant in hosts.all(call) {
        let host = &meant.host;
        // Nobody but a reader of all may see what is written for machines that are not his.
        if let Some(written) = call.may_read_all().then(|| written_for(&table, host)).flatten() {
            found.push(written);
            continue;
        }
        let asked = match host {
            Host::Name(name) if is_tag(name) => tagged(call, name),
            _ => meant.asked(call).map(|asked| as_reader(call, asked)),
        };
        let plan = asked.as_ref().map(|asked| boots(call.site.scripts.plan(asked)));
        match (asked, plan) {
            (Some(asked), Some(Ok(plan))) => {
                let is_its = call.may_read_all() || call.site.scripts.has_its_address(&asked);
                found.push(entry(host, &asked, &plan, is_its));
            }
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
    let wanted = hosts.more("endpoint");
    let is_wanted = |endpoint: Endpoint| wanted.is_none_or(|wanted| wanted == endpoint.name());
    let is_meant = |name: &String| hosts.names.is_empty() || hosts.names.contains(name);
    all_or_refuse(call, || {
        let times = call.site.history.all().into_iter();
        times
            .filter(|((name, endpoint), _)| is_wanted(*endpoint) && is_meant(name))
            .map(|((name, endpoint), time)| json!({ "name": name, "endpoint": endpoint.name(), "last_epoch": time }))
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

/// What is written, then what the configuration has for whom nothing is written.
fn all_parameters(call: &Call<'_>) -> Vec<Value> {
    let table = call.site.boot_parameters.table.get();
    let written = table.all().map(|(target, parameters)| as_written(target, parameters));
    let of_configuration = |asked: &Asked| {
        let plan = boots(call.site.scripts.plan(asked)).ok();
        plan.filter(|plan| plan.written.is_none())
    };
    let machines = call.site.machines.all().into_iter().filter_map(|known| {
        let asked = call.asked_by_reader(known);
        let name = name_of(&asked)?;
        table.named(&name).is_none().then_some(())?;
        let plan = of_configuration(&asked)?;
        Some(entry(&Host::Name(name), &asked, &plan, true))
    });
    let tags = [DEFAULT, "Unknown-x86_64", "Unknown-arm64"].into_iter().filter_map(|name| {
        table.named(name).is_none().then_some(())?;
        let asked = tagged(call, name)?;
        let plan = of_configuration(&asked)?;
        Some(entry(&Host::Name(name.to_owned()), &asked, &plan, true))
    });
    written.chain(tags).chain(machines).collect()
}

/// What is written for a name, a card or a number, as it was written.
fn written_for(table: &Table, host: &Host) -> Option<Value> {
    let target = match host {
        Host::Name(name) => Target::host(name.as_str()),
        Host::Mac(mac) => Target::Mac(mac.parse().ok()?),
        Host::Nid(nid) => Target::Nid(nid.parse().ok()?),
    };
    table.of(&target).map(|parameters| as_written(&target, parameters))
}

fn as_written(target: &Target, parameters: &Parameters) -> Value {
    let mut entry = Map::new();
    match target {
        Target::Host(name) => drop(entry.insert("hosts".to_owned(), json!([name.as_str()]))),
        Target::Mac(mac) => drop(entry.insert("macs".to_owned(), json!([mac.to_string()]))),
        Target::Nid(nid) => drop(entry.insert("nids".to_owned(), json!([nid]))),
        Target::Kernel(_) | Target::Initrd(_) => {}
    }
    extend_as_written(&mut entry, parameters, true);
    Value::from(entry)
}

fn extend_as_written(entry: &mut Map<String, Value>, parameters: &Parameters, with_cloud_init: bool) {
    let Parameters { params, kernel, initrd, cloud_init, token: _ } = parameters;
    for (key, text) in [("params", params), ("kernel", kernel), ("initrd", initrd)] {
        if !text.is_empty() {
            entry.insert(key.to_owned(), text.as_str().into());
        }
    }
    let cloud_init = cloud_init.as_ref().filter(|_| with_cloud_init).cloned().unwrap_or_default();
    let mut phone_home = nobody();
    phone_home.extend(cloud_init.phone_home.unwrap_or_default());
    let shown = json!({
        "meta-data": cloud_init.meta_data, "user-data": cloud_init.user_data, "phone-home": phone_home
    });
    entry.insert("cloud-init".to_owned(), shown);
}

/// As the service has it where nobody has phoned home.
fn nobody() -> Map<String, Value> {
    let keys = ["pub_key_dsa", "pub_key_rsa", "pub_key_ecdsa", "instance_id", "hostname", "fqdn"];
    keys.into_iter().map(|key| (key.to_owned(), "".into())).collect()
}

fn is_tag(name: &str) -> bool {
    name == DEFAULT || name.starts_with(UNKNOWN)
}

/// What stands for machines without parameters of their own: `[default]`.
fn tagged(call: &Call<'_>, name: &str) -> Option<Asked> {
    let arch = name.strip_prefix(UNKNOWN);
    if arch.is_some() && call.config.default.unknown != Unknown::Boot {
        return None;
    }
    Some(Asked { arch: arch.map(str::to_owned), ..call.asked_by(Asker::default()) })
}

/// Cloud-init's data may have secrets.
fn entry(host: &Host, asked: &Asked, plan: &BootPlan, with_cloud_init: bool) -> Value {
    let mut entry = Map::new();
    let (key, value) = match (name_of(asked), host) {
        (Some(name), _) => ("hosts", name),
        (None, Host::Mac(mac)) => ("macs", mac.clone()),
        (None, Host::Name(name) | Host::Nid(name)) => ("hosts", name.clone()),
    };
    entry.insert(key.to_owned(), json!([value]));
    match &plan.written {
        Some(found) => extend_as_written(&mut entry, &found.parameters, with_cloud_init),
        None => {
            let server = &asked.server;
            let of_configuration = Parameters {
                params: plan.args.clone(),
                kernel: url(server, &plan.kernel),
                initrd: plan.initrds.first().map(|path| url(server, path)).unwrap_or_default(),
                ..Parameters::default()
            };
            extend_as_written(&mut entry, &of_configuration, false);
        }
    }
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
