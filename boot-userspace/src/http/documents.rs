//! Documents of machines, and what machines say at the end of their boot.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Extension, FromRequest, Path, Query, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use boot_common::Mac;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use boot_engine::boot::documents::NoDocument;
use boot_engine::boot::plan::{Asked, NoScript};
use boot_engine::boot::token::NoSecret;
use boot_engine::config::{Arch, DocumentKind, parse_uuid};
use boot_engine::events::{Document, Machine, PhoneHome, Step};
use boot_engine::lifecycle::Observed;
use boot_engine::machines::Asker;

use super::receipt::{Receipt, Receipts};
use super::{Ends, LARGEST_FORM, Request, Site, boot, shown};
use crate::daemon::request::{RegistryAsk, RegistryError};

/// How many characters are taken of what a machine says of its boot.
const LONGEST_TEXT: usize = 255;
/// So long a secret document may be on its way before it is given once more, and how often it is looked at meanwhile.
const UNDER_WAY: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn document(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, name)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(said) = Said::read(&who) else { return no_such_machine() };
    send(&site, &said.asked(&site, ends, &headers), (&method, uri.path()), &name, None)
}

/// The same with a token in the path.
pub(super) async fn document_for_token(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, _, name)): Path<(String, String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    receipts: Option<Extension<Receipts>>,
) -> Response {
    let Some(asked) = asked_with_token(&site, ends, &uri, &headers, &who) else { return no_such_machine() };
    // Of one that is on its way to somebody who has asked before it is known soon whether that one has it.
    let until = Instant::now() + UNDER_WAY;
    let is_under_way = || {
        let mut kinds = DocumentKind::ALL.into_iter().filter(|kind| kind.name() == name);
        kinds.any(|kind| site.tokens.check(&asked, kind) == Ok(true))
    };
    while is_under_way() && Instant::now() < until {
        sleep(LOOK_AGAIN).await;
    }
    let receipts = receipts.map(|Extension(receipts)| receipts);
    send(&site, &asked, (&method, uri.path()), &name, receipts)
}

/// Who asks, with the token that stands before the last part of the path. None: `who` is no machine.
pub(super) fn asked_with_token(
    site: &Site,
    ends: Ends,
    uri: &Uri,
    headers: &HeaderMap,
    who: &str,
) -> Option<Asked> {
    let asked = Said::read(who)?.asked(site, ends, headers);
    // As it stands in the path, so that nothing is a token here that the log would not take for one.
    let token = uri.path().rsplit('/').nth(1).and_then(|token| token.parse().ok());
    Some(Asked { server: asked.server.clone().with_token(token), ..asked })
}

fn no_such_machine() -> Response {
    (StatusCode::NOT_FOUND, "write /documents/MAC/NAME, or /documents/self/NAME\n").into_response()
}

/// The document of that name, of the machine that is asked about. A secret one needs `receipts` of its connection.
pub(super) fn send(
    site: &Site,
    asked: &Asked,
    (method, path): (&Method, &str),
    name: &str,
    receipts: Option<Receipts>,
) -> Response {
    let is_head = *method == Method::HEAD;
    let document = site.scripts.document(asked, name).and_then(|document| {
        if document.is_secret {
            owe(site, asked, document.kind, receipts.filter(|_| !is_head)).map_err(NoDocument::Secret)?;
        }
        Ok(document)
    });
    let (end, answer) = match document {
        Ok(document) => {
            let bytes = document.text.len();
            let end = if is_head { Document::Measured } else { Document::Sent { bytes } };
            let facts = [(CONTENT_TYPE, document.kind.content_type()), (CACHE_CONTROL, "no-store")];
            let mut answer = (facts, document.text).into_response();
            if document.is_secret {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            (end, answer)
        }
        Err(none) => {
            let status = match &none {
                NoDocument::Nothing(_) => StatusCode::NOT_FOUND,
                NoDocument::Secret(NoSecret::Given) => StatusCode::GONE,
                NoDocument::OfAnother { .. } | NoDocument::Secret(_) => StatusCode::FORBIDDEN,
                NoDocument::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let text = none.to_string() + "\n";
            (Document::None(none), (status, [(CACHE_CONTROL, "no-store")], text).into_response())
        }
    };
    let step = Step::Document { client: asked.client_ip, path: shown(path), end };
    site.happened(machine_of(asked), step);
    answer
}

/// Has the connection say whether a secret document was given. Without receipts nothing is sent but its length.
fn owe(site: &Site, asked: &Asked, kind: DocumentKind, receipts: Option<Receipts>) -> Result<(), NoSecret> {
    let Some(receipts) = receipts else {
        return site.tokens.check(asked, kind).map(drop);
    };
    let attempt = site.tokens.begin(asked, kind)?;
    receipts.expect(Receipt::new(Arc::clone(&site.tokens), attempt));
    Ok(())
}

/// The form of a report.
pub(super) type Reported = Result<Form<Vec<(String, String)>>, axum::extract::rejection::FormRejection>;

/// What a machine reports: by a form, as cloud-init's `phone_home` sends it, or by an object of JSON, as BSS takes it.
pub(super) struct FormOrJson(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for FormOrJson {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|content_type| content_type.starts_with("application/json")) {
            let form = Form::from_request(request, state).await;
            return form.map(|Form(form)| Self(form)).map_err(IntoResponse::into_response);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let object: serde_json::Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())?;
        let texts = object.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        Ok(Self(texts.collect()))
    }
}

/// A machine that says nothing of a failure has none.
pub(super) async fn phone_home_by_form(
    site: State<Arc<Site>>,
    ends: ConnectInfo<Ends>,
    uri: Uri,
    headers: HeaderMap,
    FormOrJson(form): FormOrJson,
) -> Response {
    report(&site, ends.0, &uri, &headers, form).await
}

/// The same below another path.
pub(super) async fn phone_home_of(site: &Site, ends: Ends, request: &Request, body: Body) -> Response {
    let Request { method, uri, headers, .. } = request;
    let form = match *method {
        Method::GET => Vec::new(),
        Method::POST => {
            let Ok(bytes) = to_bytes(body, LARGEST_FORM).await else {
                return StatusCode::PAYLOAD_TOO_LARGE.into_response();
            };
            let mut whole = axum::extract::Request::new(Body::from(bytes));
            // Of others, a form has no body.
            whole.method_mut().clone_from(method);
            whole.headers_mut().clone_from(headers);
            match FormOrJson::from_request(whole, &()).await {
                Ok(FormOrJson(form)) => form,
                Err(refused) => return refused,
            }
        }
        _ => return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,POST")]).into_response(),
    };
    report(site, ends, uri, headers, form).await
}

pub(super) async fn phone_home(
    site: State<Arc<Site>>,
    ends: ConnectInfo<Ends>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    report(&site, ends.0, &uri, &headers, Vec::new()).await
}

/// What a report says, from its URL and its form.
pub(super) struct Pairs(Vec<(String, String)>);

pub(super) fn read_report(uri: &Uri, form: Vec<(String, String)>) -> Pairs {
    let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
    pairs.extend(form);
    Pairs(pairs)
}

impl Pairs {
    /// The first value of this name that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, value)| key == name && !value.is_empty())?;
        Some(value)
    }

    /// How it went.
    pub(super) fn end(&self) -> Result<PhoneHome, (StatusCode, &'static str)> {
        let text = self.value("text").map(Cow::Borrowed).or_else(|| {
            let instance = self.value("instance_id")?;
            let name = self.value("fqdn").or(self.value("hostname")).unwrap_or("no host name");
            Some(Cow::Owned(format!("instance {instance}, {name}")))
        });
        let text = readable(&text.unwrap_or_default());
        match self.value("status") {
            None | Some("success") => Ok(PhoneHome::Success(text)),
            Some("failure") => Ok(PhoneHome::Failure(text)),
            Some(_) => Err((StatusCode::BAD_REQUEST, "status is success or failure\n")),
        }
    }
}

async fn report(
    site: &Site,
    ends: Ends,
    uri: &Uri,
    headers: &HeaderMap,
    form: Vec<(String, String)>,
) -> Response {
    let pairs = read_report(uri, form);
    let said = Said {
        mac: pairs.value("mac").and_then(|mac| mac.parse().ok()),
        uuid: pairs.value("uuid").map(str::to_owned),
        ..Said::default()
    };
    let asked = said.asked(site, ends, headers);
    if let Err(NoScript::OfAnother { machine, address }) = site.scripts.check_asker(&asked) {
        let text = format!("{machine} has another address: it speaks for itself only\n");
        site.happened(
            machine_of(&asked),
            Step::PhoneHome(asked.client_ip, PhoneHome::OfAnother { machine, address }),
        );
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    // It decides what the machine boots next.
    if asked.life().is_some() && !site.scripts.has_its_address(&asked) {
        let text = "a machine reports from the address of its lease or reservation; if it is behind NAT or has another one, \
                    name its network in shared_addresses of [http]\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let end = match pairs.end() {
        Ok(end) => end,
        Err(refused) => return refused.into_response(),
    };
    let run = match run_in(uri.path()) {
        Ok(run) => run,
        Err(refused) => return refused.into_response(),
    };
    if let (Some(run), Some(life)) = (run, asked.life())
        && run != life.run
    {
        site.happened(machine_of(&asked), Step::PhoneHome(asked.client_ip, PhoneHome::OfEarlierRun));
        let text =
            "this is the report of an earlier run: the machine was allocated or reinstalled since then\n";
        return (StatusCode::CONFLICT, text).into_response();
    }
    let said = match &end {
        PhoneHome::Failure(text) => Err(text.clone()),
        PhoneHome::Success(text) => Ok(text.clone()),
        PhoneHome::OfEarlierRun | PhoneHome::OfAnother { .. } => Ok(String::new()),
    };
    site.happened(machine_of(&asked), Step::PhoneHome(asked.client_ip, end));
    // It is answered when it is stored: who gets no answer says it again.
    if let Some(life) = asked.life() {
        let observed = Observed::Home(said);
        let stored = site.registry.ask(|reply| RegistryAsk::Observed(life.record, observed, reply)).await;
        if let Err(error) = stored {
            return not_stored(&error).into_response();
        }
    }
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// The answer to a report that is not stored. Only where it helps, it is to be said again.
pub(super) fn not_stored(error: &RegistryError) -> (StatusCode, String) {
    match error {
        RegistryError::Unreadable { .. } => (StatusCode::CONFLICT, format!("{error}\n")),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}: say it again\n")),
    }
}

/// The installation that a report is of, if its path says that.
fn run_in(path: &str) -> Result<Option<u64>, (StatusCode, &'static str)> {
    match path.rsplit_once("/phone-home/") {
        None => Ok(None),
        Some((_, run)) => {
            run.parse().map(Some).map_err(|_| (StatusCode::NOT_FOUND, "write /phone-home/NUMBER?mac=MAC\n"))
        }
    }
}

/// A machine's own words, on one line and without anything that a terminal would follow.
pub(super) fn readable(text: &str) -> String {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    text.chars().take(LONGEST_TEXT).map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// The machine that is meant, with the name of the client where it is that.
pub(super) fn machine_of(asked: &Asked) -> Option<Machine> {
    let known = asked.asker.client.clone().filter(|client| asked.mac == Some(client.mac));
    known.map(Machine::from).or(asked.mac.map(Machine::from))
}

/// What the URL says of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    mac: Option<Mac>,
    arch: Option<Arch>,
    serial: Option<String>,
    uuid: Option<String>,
    chosen: Option<String>,
}

impl Said {
    /// A MAC address, or `self`, then architecture, serial number, UUID and what was chosen in a menu, with commas between
    /// them.
    pub(super) fn read(who: &str) -> Option<Self> {
        let mut parts = who.split(',');
        let mac = match parts.next()? {
            "self" => None,
            mac => Some(mac.parse().ok()?),
        };
        let arch = parts.next().and_then(|name| Some(Arch::ALL.iter().find(|(key, _)| *key == name)?.1));
        let mut text = || parts.next().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self { mac, arch, serial: text(), uuid: text(), chosen: text() })
    }

    pub(super) fn asked(self, site: &Site, ends: Ends, headers: &HeaderMap) -> Asked {
        let from = ends.client.ip();
        let uuid = self.uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok());
        let asker: Asker = site.machines.asker(from, self.mac, uuid);
        let ipxe = self.arch.map(Arch::as_ipxe);
        let server = boot::server(site, ends, headers, &asker);
        Asked {
            uuid: self.uuid,
            mac: self.mac.or_else(|| Some(asker.client.as_ref()?.mac)),
            asker,
            domain: None,
            hostname: None,
            platform: ipxe.map(|(_, platform)| platform.to_owned()),
            serial: self.serial,
            arch: ipxe.map(|(arch, _)| arch.to_owned()),
            chosen: self.chosen,
            client_ip: from,
            server,
            told: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_to_be_said_again_where_that_helps() {
        let unreadable = RegistryError::Unreadable { called: "db1".to_owned(), id: 7 };
        let (status, text) = not_stored(&unreadable);
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(text.contains("delete id:7") && !text.contains("again"), "{text}");
        let (status, text) = not_stored(&RegistryError::Stopping);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.ends_with(": say it again\n"), "{text}");
    }

    #[test]
    fn a_url_says_which_machine_and_what_it_said_of_itself() {
        let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
        let of = |who: &str| Said::read(who);
        let known = Some(mac);
        assert_eq!(of("52-54-00-00-00-01"), Some(Said { mac: known, ..Said::default() }));
        assert_eq!(of("52:54:00:00:00:01").unwrap().mac, known);
        let whole = Said {
            mac: known,
            arch: Some(Arch::Arm64),
            serial: Some("CZ_1".to_owned()),
            uuid: Some("u".to_owned()),
            chosen: None,
        };
        let chosen = Said { chosen: Some("rescue".to_owned()), ..whole.clone() };
        assert_eq!(of("52-54-00-00-00-01,arm64,CZ_1,u,rescue"), Some(chosen));
        assert_eq!(of("52-54-00-00-00-01,arm64,CZ_1,u"), Some(whole.clone()));
        assert_eq!(of("self,,CZ_1"), Some(Said { mac: None, arch: None, uuid: None, ..whole }));
        assert_eq!((of("node1"), of("")), (None, None));
    }

    #[test]
    fn what_a_machine_says_is_one_line_for_people() {
        assert_eq!(readable("no root: \u{e4}\n\u{1b}[31mx\u{202e}"), "no root: \u{e4}__[31mx_");
        assert_eq!(readable(&"x".repeat(1000)).len(), 255);
    }
}
