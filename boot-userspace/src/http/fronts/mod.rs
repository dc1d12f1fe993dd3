//! The URLs of other systems for network boot. Each front translates: a request into the question what a machine boots, and
//! the plan into what that system's clients read. It decides nothing and keeps no machine of its own.

mod booter;
mod bss;
mod ec2;
mod matchbox;
mod pixiecore;
mod sidero;
mod smee;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use boot_common::Mac;
use boot_engine::boot::plan::{Asked, NoScript};
use boot_engine::config::{Config, Front};
use boot_engine::machines::{Asker, Known};
use ipnet::IpNet;

use super::outbox::Outbox;
use super::{Ends, Request, Site, boot, documents, files};

pub use bss::History;

/// A request that none of the paths of xpxe itself is.
pub(super) struct Call<'a> {
    site: &'a Site,
    ends: Ends,
    request: &'a Request,
    outbox: Option<&'a Outbox>,
    config: Arc<Config>,
}

/// The answer of the first front that knows the path; none if no front does.
pub(super) async fn answer(
    site: &Site,
    ends: Ends,
    request: &Request,
    outbox: Option<&Outbox>,
    body: Body,
) -> Option<Response> {
    let config = site.scripts.config();
    let mut body = Some(body);
    let call = Call { site, ends, request, outbox, config };
    for front in &call.config.http.fronts {
        let answer = match front {
            Front::Booter => booter::answer(&call),
            Front::Sidero => sidero::answer(&call).await,
            Front::Bss => bss::answer(&call, &mut body).await,
            Front::Matchbox => matchbox::answer(&call).await,
            Front::Pixiecore => pixiecore::answer(&call),
            Front::Smee => match ec2::answer(&call) {
                None => smee::answer(&call).await,
                answer => answer,
            },
        };
        if answer.is_some() {
            return answer;
        }
    }
    None
}

impl Call<'_> {
    fn path(&self) -> &str {
        self.request.uri.path()
    }

    fn reads(&self) -> bool {
        matches!(self.request.method, Method::GET | Method::HEAD)
    }

    /// For the fronts whose every path is only read.
    fn only_read(&self) -> Option<Response> {
        (!self.reads()).then(|| {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")], "this is only read\n").into_response()
        })
    }

    /// Who asks, and what its query says, as `/ipxe/boot.ipxe` reads it.
    fn asked(&self) -> Asked {
        let machines = &self.site.machines;
        boot::read_query(self.site, self.ends, &self.request.uri, &self.request.headers, |mac, uuid| {
            machines.asker(self.ends.client.ip(), mac, uuid)
        })
    }

    /// The same about a machine that the path names.
    fn asked_for(&self, mac: Mac) -> Asked {
        let asker = self.site.machines.asker(self.ends.client.ip(), Some(mac), None);
        Asked { mac: Some(mac), ..self.asked_by(asker) }
    }

    /// About a machine of the configuration, for one who may read all of them.
    fn asked_by_reader(&self, known: Known) -> Asked {
        let mac = known.machine.macs.first().copied();
        Asked { mac, ..self.asked_by(Asker { known: Some(known), ..Asker::default() }) }
    }

    /// What is known of one who says nothing.
    fn asked_by(&self, asker: Asker) -> Asked {
        let (headers, nothing) = (&self.request.headers, Uri::default());
        boot::read_query(self.site, self.ends, &nothing, headers, |_, _| asker)
    }

    fn bootstrap(&self) -> Response {
        let client = self.site.machines.client_at(self.ends.client.ip());
        let Request { method, uri, headers, .. } = self.request;
        boot::bootstrap_for(self.site, self.ends, method, uri, headers, client)
    }

    /// Who asks for what its machine boots.
    fn for_boot(&self, asked: Asked) -> Asked {
        self.site.for_boot(asked, &self.request.method)
    }

    /// The same of what iPXE reads.
    fn for_ipxe(&self, asked: Asked) -> Asked {
        self.site.for_ipxe(asked, &self.request.method)
    }

    /// The machine's iPXE script.
    async fn script(&self, asked: &Asked) -> Response {
        let asked = &self.site.told(self.for_ipxe(asked.clone())).await;
        let script = self.site.scripts.script(asked);
        boot::answer(self.site, asked, &self.request.method, self.path(), script)
    }

    /// Logs what becomes of a request for something else than a script.
    fn tell(&self, asked: &Asked, text: &Result<String, NoScript>) {
        boot::tell(self.site, asked, &self.request.method, self.path(), text);
    }

    /// The machine's document of this name.
    fn document(&self, asked: &Asked, name: &str) -> Response {
        documents::send(self.site, asked, (&self.request.method, self.path()), name, None)
    }

    async fn file(&self, name: &str) -> Response {
        files::named(self.site, self.ends, self.request, self.outbox.cloned(), name.to_owned()).await
    }

    /// Whether the client may read every machine at once. Who may write what they boot may read it.
    fn may_read_all(&self) -> bool {
        self.is_in(&self.config.http.inventory_clients) || self.may_write()
    }

    /// Whether the client may write what machines boot.
    fn may_write(&self) -> bool {
        self.is_in(&self.config.http.bss_writers)
    }

    fn is_in(&self, nets: &[IpNet]) -> bool {
        let client = self.ends.client.ip();
        nets.iter().any(|net| net.contains(&client))
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, "text/plain"), (CACHE_CONTROL, "no-store")], text.into()).into_response()
}

fn json(status: StatusCode, content_type: &'static str, value: &serde_json::Value) -> Response {
    let text = value.to_string() + "\n";
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// What a machine without a plan is answered by fronts whose clients read the status.
fn refused(no_script: &NoScript) -> (StatusCode, String) {
    let status = match no_script {
        NoScript::NotForYou(_) => StatusCode::NOT_FOUND,
        NoScript::OfAnother { .. } => StatusCode::FORBIDDEN,
        NoScript::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, no_script.to_string())
}
