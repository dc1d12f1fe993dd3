//! HTTP for booting machines: boot scripts, boot files, and whether the server is alive and what it does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use ipnet::IpNet;
use tokio::net::TcpListener;

use crate::daemon::request::{ParametersHandle, RegistryHandle};
use crate::files::{BootFiles, DocumentTokens};
use crate::host::clock;
use crate::images::Images;
use boot_engine::boot::token::Token;
use boot_engine::config::Http;
use boot_engine::events::{self, BootEvent, Events, Machine, RefusedRequest, Step, WhyEnded};
use boot_engine::machines::Machines;

pub mod admin;
mod agent;
pub mod api;
mod body;
pub mod boot;
pub mod boots;
pub mod catalog;
mod conditions;
mod connection_stats;
mod connections;
mod crowd;
mod dashboard;
mod date;
mod delivery;
mod documents;
mod ending;
mod files;
mod following;
pub mod fronts;
mod health;
mod images;
pub mod leases;
mod link_key;
mod loaders;
pub mod machines;
pub mod metrics;
mod multipart;
mod outbox;
mod pace;
mod pixiecore_api;
mod protocol;
mod proxied;
mod receipt;
#[cfg(test)]
mod tests;
mod tls;
mod unrouted;
pub mod webhooks;

pub use boot::{Asked, Document, NoDocument, NoScript, Scripts};
pub use connection_stats::ConnectionStats;
pub use connections::{listen, reserve};
pub use health::Readiness;
pub use link_key::{LinkKeyError, link_key};
pub use pace::Pace;
pub use tls::{Certificate, Https, Tls, TlsError};

use connections::Connections;
use ending::Ending;
use protocol::Tcp;

/// What the handlers need.
#[derive(Clone)]
pub struct Site {
    /// The files that may be served.
    pub files: Arc<BootFiles>,
    /// The content store.
    pub images: Arc<Images>,
    /// The machines and their addresses.
    pub machines: Machines,
    /// What secret documents are given for.
    pub tokens: Arc<DocumentTokens>,
    /// How often each machine reports what it consists of, and how far its agent is.
    pub inventories: Arc<Pace>,
    /// Who writes the boot scripts.
    pub scripts: Arc<dyn Scripts + Send + Sync>,
    /// Proxies that are believed whom they forward for.
    pub trusted_proxies: Arc<[IpNet]>,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Gets what happens.
    pub events: Events,
    /// What the front for BSS remembers.
    pub history: Arc<fronts::History>,
    /// Who keeps the registry of machines.
    pub registry: RegistryHandle,
    /// What is written through the front for BSS.
    pub boot_parameters: ParametersHandle,
}

impl Site {
    fn happened(&self, machine: Option<Machine>, step: Step) {
        self.events.emit(BootEvent::new(clock::boot(), step).of(machine));
    }

    /// Who asks for what iPXE reads: with a token, and images that are fetched from S3.
    fn for_ipxe(&self, asked: Asked, method: &Method) -> Asked {
        let asked = self.for_boot(asked, method);
        Asked { server: asked.server.clone().handing_out(self.images.hand_out()), ..asked }
    }

    /// The same with what somebody else says that its machine boots, where that is for somebody else to say.
    async fn told(&self, asked: Asked) -> Asked {
        let Some(url) = self.scripts.elsewhere(&asked) else { return asked };
        Asked { told: Some(Arc::new(pixiecore_api::ask(&url).await)), ..asked }
    }

    /// Who asks for a script: with a token if the machine may have secret documents.
    fn for_boot(&self, asked: Asked, method: &Method) -> Asked {
        match self.scripts.wants_token(&asked) {
            true => self.tokens.issue(asked, method == Method::HEAD),
            false => asked,
        }
    }
}

/// The routes that machines need to boot; further routers may be merged with it.
pub fn router(site: Site) -> Router {
    // It is cloned several times for each request.
    let site = Arc::new(site);
    let admit = middleware::from_fn_with_state(Arc::clone(&site), admit);
    Router::new()
        .route("/boot.ipxe", get(boot::bootstrap))
        .route("/autoexec.ipxe", get(boot::bootstrap))
        .route("/ipxe/boot.ipxe", get(boot::script))
        .route("/documents/{who}/{name}", get(documents::document))
        .route("/documents/{who}/{token}/{name}", get(documents::document_for_token))
        .route("/phone-home", get(documents::phone_home).post(documents::phone_home_by_form))
        .route("/phone-home/{run}", get(documents::phone_home).post(documents::phone_home_by_form))
        .route("/agent/report", any(agent::without_token))
        .route("/agent/{who}/{what}", any(agent::without_token))
        .route("/agent/{who}/{token}/task", get(agent::task))
        .route("/agent/{who}/{token}/inventory", post(agent::inventory))
        .route("/agent/{who}/{token}/progress", post(agent::progress))
        .route("/agent/{who}/{token}/report", get(agent::report).post(agent::report))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .route("/files/{*path}", get(files::file))
        .route("/tftp/{*path}", get(files::file))
        .route("/images/{*path}", get(images::image))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(unrouted::nothing_there)
        .with_state(site)
        .layer(admit)
}

/// Where clients connect.
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For HTTPS.
    pub https: Option<Https>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, https: None }
    }
}

/// Serves for ever, over HTTPS too if there is any. Handlers may ask for [`Ends`] as connection info.
pub async fn serve(
    listeners: impl Into<Listeners>,
    router: Router,
    settings: &Http,
    stats: Arc<ConnectionStats>,
    events: Events,
) {
    let Listeners { http, https } = listeners.into();
    let connections = Connections::new(http, settings, stats);
    if let Some(Https { listener, tls, events }) = https {
        tokio::spawn(tls::serve(connections.beside(listener), router.clone(), tls.clone(), events));
        tokio::spawn(tls.follow());
    }
    serve_plainly(connections, router, events).await;
}

/// Serves those who do not encrypt, for ever.
async fn serve_plainly(mut connections: Connections, router: Router, events: Events) {
    loop {
        let (connection, client) = connections.accept().await;
        let client = canonical(client);
        // A socket whose own address is unknown is closed already.
        let server = connection.local_addr().map_or(client, canonical);
        let (leave, ending, events) = (connection.leave(), connection.ending(), Arc::clone(&events));
        let (answering, outbox) = (connection.answering(), Some(connection.outbox()));
        let receipts = connection.receipts();
        let tcp = Tcp { answering, outbox, ending: ending.clone(), receipts };
        let answers = protocol::speak(
            connection,
            router.clone(),
            Ends { client, server, is_tls: false, key: None },
            Some(tcp),
        );
        tokio::spawn(async move {
            tokio::select! {
                ended = answers => tell_unseen(ended, client.ip(), &ending, &events),
                () = leave.notified() => ending.by_daemon(WhyEnded::MadeRoom),
            }
        });
    }
}

/// Tells of a request that ended a connection before any handler has seen it.
fn tell_unseen(ended: hyper::Result<()>, client: IpAddr, ending: &Ending, events: &Events) {
    let why = match ended {
        Err(error) if error.is_parse() => RefusedRequest::Unreadable(error.to_string()),
        // Without a request, this is how an idle connection ends.
        Err(error) if error.is_timeout() && ending.has_begun_request() => RefusedRequest::TooSlow,
        _ => return,
    };
    let step = Step::Http(client, events::Http::Refused(why));
    events.emit(BootEvent::new(clock::boot(), step));
}

/// What is done with every request, whatever it asks for: one layer, because each costs every request.
async fn admit(State(site): State<Arc<Site>>, mut request: axum::extract::Request, next: Next) -> Response {
    proxied::see_through(&site.trusted_proxies, &mut request);
    let client = request.extensions().get::<ConnectInfo<Ends>>().map(|ConnectInfo(ends)| ends.client.ip());
    if client.is_some_and(|client| site.machines.ignores(client)) {
        // Nothing for machines that are ignored, and no word of it in the log.
        return StatusCode::NOT_FOUND.into_response();
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    tell_refused(&site, client, &method, &uri, response.status());
    response
}

/// Tells of a request that axum or a handler has refused without telling.
fn tell_refused(site: &Site, client: Option<IpAddr>, method: &Method, uri: &Uri, status: StatusCode) {
    if matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST)
        && let Some(client) = client
    {
        let (method, path) = (shown(method.as_str()), shown(uri.path()));
        let refused = RefusedRequest::Status { method, path, status: status.as_u16() };
        let step = Step::Http(client, events::Http::Refused(refused));
        site.happened(site.machines.client_at(client).map(Machine::from), step);
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address of this server that the client reached, so that URLs in scripts lead back to it.
    pub server: SocketAddr,
    /// Over HTTPS.
    pub is_tls: bool,
    /// The digest of the public key that this server has shown there.
    pub key: Option<[u8; 32]>,
}

/// What a file's answer depends on.
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Of its connection.
    ending: Ending,
}

/// A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes of a form: cloud-init's has a machine's public keys.
const LARGEST_FORM: usize = 64 << 10;

/// How many characters of a path are logged.
const LONGEST_PATH: usize = 255;

/// A path as the log has it: a request's may be as long as its headers, and any bytes may be in it. No log has a token.
fn shown(path: &str) -> String {
    Token::hide(path).chars().take(LONGEST_PATH).flat_map(char::escape_debug).collect()
}
