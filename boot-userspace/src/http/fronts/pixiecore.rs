//! The API that pixiecore asks in its API mode: it boots what it gets with 200, and nothing otherwise.
//!
//! pixiecore asks for all its machines from its own address. With `shared_addresses` that address stands for them.

use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::plan::{BootPlan, NoScript, Plan};
use boot_engine::boot::url;
use serde_json::json;

use super::{Call, json, refused, text};

pub(super) fn answer(call: &Call<'_>) -> Option<Response> {
    let mac = call.path().strip_prefix("/v1/boot/")?;
    if let Some(refused) = call.only_read() {
        return Some(refused);
    }
    let Ok(mac) = mac.parse() else {
        return Some(text(StatusCode::BAD_REQUEST, "the path ends with no MAC address\n"));
    };
    let asked = call.for_ipxe(call.asked_for(mac));
    let plan = call.site.scripts.plan(&asked).and_then(|plan| match plan {
        Plan::Boot(plan) => Ok(plan),
        // It has no way to wait, and asks again whenever the machine does.
        Plan::Wait(why) => Err(NoScript::NotForYou(why)),
    });
    let document = plan.map(|plan| {
        let server = &asked.server;
        let BootPlan { name, profile, kernel, initrds, args, .. } = plan;
        json!({
            "kernel": url(server, &kernel),
            "initrd": initrds.iter().map(|path| url(server, path)).collect::<Vec<_>>(),
            "cmdline": literal(&args),
            "message": format!("xpxe: booting {name} ({profile})"),
        })
    });
    call.tell(&asked, &document.as_ref().map(ToString::to_string).map_err(Clone::clone));
    Some(match document {
        Ok(document) => json(StatusCode::OK, "application/json", &document),
        Err(no_script) => {
            let (status, why) = refused(&no_script);
            text(status, why + "\n")
        }
    })
}

/// pixiecore takes the arguments for a template of Go's.
fn literal(args: &str) -> String {
    args.replace("{{", "{{\"{{\"}}")
}
