//! `bootscript`: a machine's iPXE script as the service writes it.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use boot_engine::boot::plan::{Asked, BootPlan, NoScript, Plan};
use boot_engine::boot::url;
use serde_json::json;

use super::super::{Call, json, refused};
use super::history::Endpoint;
use super::hosts::{Host, Hosts};
use super::{JSON, name_of, problem};

/// Seconds until a machine that could not boot asks again.
const RETRY: u32 = 30;

pub(super) fn bootscript(call: &Call<'_>) -> Response {
    let hosts = match Hosts::of(call) {
        Ok(hosts) => hosts,
        Err(too_many) => return too_many.answer(),
    };
    let is_json = hosts.more("json").is_some_and(|json| json != "0");
    let arch = hosts.more("arch").map(|arch| arch.chars().filter(|c| !c.is_control()).take(32).collect());
    let retry: u32 = hosts.more("retry").and_then(|retry| retry.parse().ok()).unwrap_or(0);
    let Some(meant) = hosts.all(call).into_iter().next() else {
        return problem(StatusCode::BAD_REQUEST, "Need a mac=, name=, or nid= parameter");
    };
    let says_mac = matches!(meant.host, Host::Mac(_));
    let Some(asked) = meant.asked(call) else {
        return problem(StatusCode::NOT_FOUND, &meant.host.unknown());
    };
    let asked = call.for_ipxe(Asked { arch, ..asked });
    if is_json {
        return as_json(call, &asked, says_mac);
    }
    let script = call.site.scripts.plan(&asked).map(|plan| write(call, &asked, plan, says_mac, retry));
    call.tell(&asked, &script);
    match script {
        Ok(script) => {
            if let Some(name) = name_of(&asked) {
                call.site.history.note(&name, Endpoint::Bootscript);
            }
            let headers = [(CONTENT_TYPE, "text/plain; charset=UTF-8"), (CACHE_CONTROL, "no-store")];
            (StatusCode::OK, headers, script).into_response()
        }
        Err(no_script) => {
            let (status, why) = refused(&no_script);
            problem(status, &why)
        }
    }
}

fn write(call: &Call<'_>, asked: &Asked, plan: Plan, says_mac: bool, retry: u32) -> String {
    let mut again = asked.server.at(format_args!("{}?", call.path()));
    again += &match (asked.mac, name_of(asked)) {
        (Some(mac), _) => format!("mac={mac}"),
        (None, name) => format!("name={}", name.unwrap_or_default()),
    };
    // The service asks a machine that it does not know for its architecture first.
    let asks_arch =
        asked.arch.is_none() && (asked.asker.known.is_none() || depends_on_arch(call, asked, &plan));
    match plan {
        _ if asks_arch => format!("#!ipxe\nchain {again}&arch=${{buildarch}}&retry={retry}\n\n"),
        Plan::Wait(why) => {
            format!(
                "#!ipxe\necho xpxe: {why}\n:boot_retry\nsleep {RETRY}\nchain {again}&retry={} || goto boot_retry\n\n",
                retry.saturating_add(1)
            )
        }
        Plan::Boot(plan) => {
            let server = &asked.server;
            let names: Vec<String> = (0..plan.initrds.len()).map(initrd_name).collect();
            let initrds: String = plan
                .initrds
                .iter()
                .zip(&names)
                .map(|(path, name)| {
                    format!("initrd --name {name} {} || goto boot_retry\n", url(server, path))
                })
                .collect();
            let named: String = names.iter().map(|name| format!("initrd={name} ")).collect();
            let params = params(asked, &plan, says_mac);
            let kernel = url(server, &plan.kernel);
            format!(
                "#!ipxe\nkernel --name kernel {kernel} {named}{params} || goto boot_retry\n{initrds}\
                 boot || goto boot_retry\n:boot_retry\nsleep {RETRY}\nchain {again}&retry={} || goto boot_retry\n\n",
                retry.saturating_add(1)
            )
        }
    }
}

/// What the script would boot, for programs.
fn as_json(call: &Call<'_>, asked: &Asked, says_mac: bool) -> Response {
    let plan = boots(call.site.scripts.plan(asked));
    call.tell(asked, &plan.as_ref().map(|plan| plan.kernel.clone()).map_err(Clone::clone));
    match plan {
        Ok(plan) => {
            let params = params(asked, &plan, says_mac);
            let initrd = plan.initrds.first().map(|path| url(&asked.server, path));
            let named = initrd.as_ref().map_or("", |_| "initrd=initrd ");
            let value = json!({
                "params": format!("kernel {named}{params}"),
                "kernel": { "path": url(&asked.server, &plan.kernel) },
                "initrd": { "path": initrd.unwrap_or_default() },
            });
            json(StatusCode::OK, JSON, &value)
        }
        Err(no_script) => {
            let (status, why) = refused(&no_script);
            problem(status, &why)
        }
    }
}

fn initrd_name(number: usize) -> String {
    match number {
        0 => "initrd".to_owned(),
        number => format!("initrd{number}"),
    }
}

fn depends_on_arch(call: &Call<'_>, asked: &Asked, plan: &Plan) -> bool {
    ["x86_64", "arm64", "i386"].into_iter().any(|arch| {
        let with_arch = Asked { arch: Some(arch.to_owned()), ..asked.clone() };
        !matches!(call.site.scripts.plan(&with_arch), Ok(other) if other == *plan)
    })
}

/// The plan's arguments, and those that the service adds where they are not there.
fn params(asked: &Asked, plan: &BootPlan, says_mac: bool) -> String {
    let nid = asked.asker.known.as_ref().and_then(|known| known.machine.labels.get("nid"));
    let bootif =
        asked.mac.filter(|_| says_mac).map(|mac| format!("01-{}", mac.to_string().replace(':', "-")));
    let added = [
        ("xname=", name_of(asked)),
        ("nid=", nid.filter(|nid| nid.parse::<u32>().is_ok()).cloned()),
        ("bss_referral_token=", plan.written.as_ref().map(|written| written.parameters.token.clone())),
        ("BOOTIF=", bootif),
        ("ds=", Some(format!("nocloud-net;s={}", asked.server.at("/")))),
    ];
    let mut params = plan.args.clone();
    for (key, value) in added {
        if let Some(value) =
            value.filter(|value| !value.is_empty() && !plan.args.split(' ').any(|word| word.starts_with(key)))
        {
            if !params.is_empty() {
                params.push(' ');
            }
            params += &format!("{key}{value}");
        }
    }
    params
}

/// A plan that boots something.
pub(super) fn boots(plan: Result<Plan, NoScript>) -> Result<BootPlan, NoScript> {
    match plan? {
        Plan::Boot(plan) => Ok(plan),
        Plan::Wait(why) => Err(NoScript::NotForYou(why)),
    }
}
