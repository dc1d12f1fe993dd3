//! Redfish (DSP0266), as far as power needs it: a client that takes what BMCs really answer.
//!
//! It follows the links that it finds, asks for nothing that it does not need, and tries the next way when a BMC refuses
//! one. What is known of makers is a table, [`Quirks`].

mod quirks;
mod tls;

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use super::{Boot, Login, Reading, Target, Trouble};
use boot_engine::lifecycle::Act;
use quirks::Quirks;

/// Bytes of a BMC's answer: what a system says of itself has some ten thousand.
const LONGEST: usize = 1 << 20;
/// How many systems of one BMC are looked at to find a machine by its UUID.
const MOST_SYSTEMS: usize = 64;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Reads whether a machine is on.
pub(super) async fn read(target: &Target, login: &Login) -> Result<Reading, Trouble> {
    let bmc = Bmc::new(target, login)?;
    let system = bmc.system(target).await?;
    Ok(system.power())
}

/// Has a machine switched.
pub(super) async fn act(target: &Target, login: &Login, act: Act, boot: Option<Boot>) -> Result<(), Trouble> {
    let bmc = Bmc::new(target, login)?;
    let system = bmc.system(target).await?;
    let quirks = Quirks::of(system.json.get("Manufacturer").and_then(Value::as_str));
    if act == Act::ResetBmc {
        return bmc.reset_itself(&system).await;
    }
    if let Some(boot) = boot {
        bmc.boot_once(&system, boot, target.bmc.bios == Some(true)).await?;
    }
    let types: &[&str] = match (act, system.power()) {
        // What is so already is done.
        (Act::On, Reading::On) | (Act::Off, Reading::Off) => return Ok(()),
        (Act::Off, _) => &["ForceOff"],
        (Act::Cycle, Reading::On) => quirks.cycle,
        _ => &["On", "ForceOn"],
    };
    bmc.reset(
        &system.json,
        "#ComputerSystem.Reset",
        &format!("{}/Actions/ComputerSystem.Reset", system.path),
        types,
    )
    .await
}

/// A BMC.
struct Bmc<'a> {
    client: Client,
    base: Url,
    login: &'a Login,
}

/// What a BMC says of a system.
struct System {
    path: String,
    json: Value,
    etag: Option<HeaderValue>,
}

impl System {
    fn power(&self) -> Reading {
        match self.json.get("PowerState").and_then(Value::as_str) {
            Some("On") => Reading::On,
            Some("Off") => Reading::Off,
            _ => Reading::Changing,
        }
    }
}

/// An answer.
struct Answer {
    status: StatusCode,
    etag: Option<HeaderValue>,
    json: Value,
}

impl Bmc<'_> {
    fn new<'a>(target: &Target, login: &'a Login) -> Result<Bmc<'a>, Trouble> {
        let place = target.place()?;
        let url = if place.contains("://") { place.to_owned() } else { format!("https://{place}") };
        let base =
            Url::parse(&url).map_err(|error| Trouble::Lasting(format!("{place} is no address: {error}")))?;
        if base.scheme() == "http" && target.bmc.insecure != Some(true) {
            return Err(Trouble::Lasting(format!(
                "{base} speaks HTTP, so the password would cross the network in clear text: write https://, or \
                 insecure = true into bmc of the machine if that is wanted"
            )));
        }
        // Credentials go to this BMC and to nobody that it or the environment names.
        let builder = Client::builder()
            .user_agent(concat!("xpxe/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            .no_proxy()
            .referer(false);
        let client = tls::prepare(builder, &target.bmc).build();
        let client = client
            .map_err(|error| Trouble::Lasting(format!("TLS cannot be prepared: {}", reasons(&error))))?;
        Ok(Bmc { client, base, login })
    }

    /// The machine among the systems of the BMC.
    async fn system(&self, target: &Target) -> Result<System, Trouble> {
        // Where the address names one, it is that one.
        if self.base.path().len() > 1 {
            return self.one(self.base.path()).await;
        }
        let root = self.get("/redfish/v1/").await?;
        let systems = link(&root.json, "Systems").unwrap_or("/redfish/v1/Systems").to_owned();
        let list = self.get(&systems).await?.json;
        let members: Vec<&str> = list
            .get("Members")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|member| member.get("@odata.id")?.as_str())
            .collect();
        match &members[..] {
            [] => Err(Trouble::Lasting(format!("{} has no system in {systems}", self.name()))),
            [only] => self.one(only).await,
            many => {
                for path in many.iter().take(MOST_SYSTEMS) {
                    let system = self.one(path).await?;
                    if target.uuid.is_some_and(|uuid| has_uuid(&system.json, uuid)) {
                        return Ok(system);
                    }
                }
                Err(Trouble::Lasting(format!(
                    "{} has {} systems, none with the UUID of {}: give the machine its uuid, or write the system's path into address of bmc (https://{}{})",
                    self.name(),
                    many.len(),
                    target.name,
                    self.name(),
                    members[0]
                )))
            }
        }
    }

    async fn one(&self, path: &str) -> Result<System, Trouble> {
        let Answer { json, etag, .. } = self.get(path).await?;
        let of_body = || HeaderValue::from_str(json.get("@odata.etag")?.as_str()?).ok();
        Ok(System { etag: etag.or_else(of_body), path: path.trim_end_matches('/').to_owned(), json })
    }

    /// Has a system boot from somewhere else once. What a BMC does not want said is left out.
    async fn boot_once(&self, system: &System, boot: Boot, bios: bool) -> Result<(), Trouble> {
        let target = match boot {
            Boot::Pxe => "Pxe",
            Boot::Http => "UefiHttp",
            Boot::Disk => "Hdd",
        };
        let mode = if bios && boot != Boot::Http { "Legacy" } else { "UEFI" };
        let short = json!({ "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target });
        let mut whole = short.clone();
        if let Some(whole) = whole.as_object_mut() {
            whole.insert("BootSourceOverrideMode".to_owned(), mode.into());
        }
        let mut first = None;
        for boot in [whole, short] {
            let answer = self.patch(system, &json!({ "Boot": boot })).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            let failed = self.refused(&answer, &format!("to boot once from {target}"));
            if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Err(failed);
            }
            first.get_or_insert(failed);
        }
        Err(first.unwrap_or_else(|| Trouble::Lasting("it refuses".to_owned())))
    }

    /// With the entity tag that was read; with any, where that is outdated or not enough.
    async fn patch(&self, system: &System, body: &Value) -> Result<Answer, Trouble> {
        let any = HeaderValue::from_static("*");
        let mut answer = self.send(Method::PATCH, &system.path, Some(body), system.etag.as_ref()).await?;
        if matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED) {
            answer = self.send(Method::PATCH, &system.path, Some(body), Some(&any)).await?;
        }
        Ok(answer)
    }

    /// The first of these types that it allows, and takes.
    async fn reset(
        &self,
        json: &Value,
        action: &str,
        otherwise: &str,
        types: &[&str],
    ) -> Result<(), Trouble> {
        let action = json.get("Actions").and_then(|actions| actions.get(action));
        let path = action.and_then(|action| action.get("target")?.as_str()).unwrap_or(otherwise);
        let allowed = action.and_then(|action| action.get("ResetType@Redfish.AllowableValues")?.as_array());
        let is_allowed = |kind: &&&str| {
            allowed.is_none_or(|allowed| allowed.iter().any(|word| word.as_str() == Some(**kind)))
        };
        let mut last = None;
        // A list that has none of them may be wrong.
        let fitting: Vec<&&str> = types.iter().filter(is_allowed).collect();
        let fitting = if fitting.is_empty() { types.iter().collect() } else { fitting };
        for kind in fitting {
            let answer = self.send(Method::POST, path, Some(&json!({ "ResetType": kind })), None).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            let failed = self.refused(&answer, &format!("ResetType {kind}"));
            // Another word does not help where nobody listens to any.
            if !matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
                return Err(failed);
            }
            last = Some(failed);
        }
        Err(last.unwrap_or_else(|| Trouble::Lasting("it refuses".to_owned())))
    }

    async fn reset_itself(&self, system: &System) -> Result<(), Trouble> {
        let of_system = system.json.get("Links").and_then(|links| links.get("ManagedBy")?.get(0));
        let manager = match of_system.and_then(|manager| manager.get("@odata.id")?.as_str()) {
            Some(path) => path.to_owned(),
            None => {
                let root = self.get("/redfish/v1/").await?;
                let list =
                    self.get(link(&root.json, "Managers").unwrap_or("/redfish/v1/Managers")).await?.json;
                let first =
                    list.get("Members").and_then(|members| members.get(0)?.get("@odata.id")?.as_str());
                let none = || Trouble::Lasting(format!("{} names no manager to restart", self.name()));
                first.ok_or_else(none)?.to_owned()
            }
        };
        let json = self.get(&manager).await?.json;
        let otherwise = format!("{}/Actions/Manager.Reset", manager.trim_end_matches('/'));
        self.reset(&json, "#Manager.Reset", &otherwise, &["GracefulRestart", "ForceRestart"]).await
    }

    async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        let answer = self.send(Method::GET, path, None, None).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(&answer, path)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        only_if: Option<&HeaderValue>,
    ) -> Result<Answer, Trouble> {
        // Links lead nowhere else: the password goes with each request.
        let elsewhere =
            || Trouble::Lasting(format!("{} links to {path:?}, which is no path of it", self.name()));
        if !path.starts_with('/') {
            return Err(elsewhere());
        }
        let url = self.base.join(path).map_err(|error| Trouble::Lasting(format!("{path:?}: {error}")))?;
        // What came out, not the text: a URL takes `\\` for `/`, and drops tabs and line ends.
        if url.origin() != self.base.origin() {
            return Err(elsewhere());
        }
        let mut request: RequestBuilder = self.client.request(method, url).header(ACCEPT, "application/json");
        request = request.basic_auth(&self.login.user, Some(self.login.password.reveal()));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(tag) = only_if {
            request = request.header(IF_MATCH, tag);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| {
            Trouble::Passing(format!("{} does not answer: {}", self.name(), reasons(&error)))
        })?;
        let (status, etag) = (response.status(), response.headers().get(ETAG).cloned());
        let mut bytes = Vec::new();
        while let Some(some) = response.chunk().await.map_err(|error| {
            Trouble::Passing(format!("{} breaks off its answer: {}", self.name(), reasons(&error)))
        })? {
            if bytes.len() + some.len() > LONGEST {
                return Err(Trouble::Lasting(format!(
                    "{} answers more than {LONGEST} bytes to {path}",
                    self.name()
                )));
            }
            bytes.extend_from_slice(&some);
        }
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() && json.is_null() && body.is_none() {
            return Err(Trouble::Lasting(format!(
                "{} answers no JSON to {path}: is this a BMC with Redfish?",
                self.name()
            )));
        }
        Ok(Answer { status, etag, json })
    }

    /// What an answer that is no success means.
    fn refused(&self, answer: &Answer, what: &str) -> Trouble {
        let remedy = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; are user and password right, and may that user switch machines?"
            }
            StatusCode::NOT_FOUND => "; is this a BMC with Redfish?",
            _ => "",
        };
        let said = said(&answer.json).map(|said| format!(" ({said})")).unwrap_or_default();
        let why = format!("{} answers {} to {what}{said}{remedy}", self.name(), answer.status);
        let passes = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
        if passes { Trouble::Passing(why) } else { Trouble::Lasting(why) }
    }

    /// The BMC's host, with its port.
    fn name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn link<'j>(json: &'j Value, name: &str) -> Option<&'j str> {
    json.get(name)?.get("@odata.id")?.as_str()
}

/// The message of an error (DSP0266, 8.6), fit for a log.
fn said(json: &Value) -> Option<String> {
    let error = json.get("error")?;
    let info = error.get("@Message.ExtendedInfo").and_then(|info| info.get(0)?.get("Message"));
    let message = info.or_else(|| error.get("message")).and_then(Value::as_str)?;
    Some(message.chars().take(200).collect())
}

/// In either byte order: BMCs differ in that as firmware does.
fn has_uuid(json: &Value, uuid: [u8; 16]) -> bool {
    let digits = json.get("UUID").and_then(Value::as_str).map(|text| text.replace('-', "").to_lowercase());
    let hex = |uuid: [u8; 16]| uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut other = uuid;
    other[..4].reverse();
    other[4..6].reverse();
    other[6..8].reverse();
    digits.is_some_and(|digits| digits == hex(uuid) || digits == hex(other))
}

/// An error with its causes, without what they repeat.
fn reasons(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    if error.is_timeout() { format!("it took too long ({last})") } else { last.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::secret::Secret;

    #[test]
    fn a_machine_is_found_by_its_uuid_in_either_byte_order() {
        let uuid = boot_engine::config::parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert!(has_uuid(&json!({ "UUID": "00112233-4455-6677-8899-AABBCCDDEEFF" }), uuid));
        assert!(has_uuid(&json!({ "UUID": "33221100-5544-7766-8899-aabbccddeeff" }), uuid));
        assert!(!has_uuid(&json!({ "UUID": "10112233-4455-6677-8899-aabbccddeeff" }), uuid));
        assert!(!has_uuid(&json!({}), uuid));
    }

    /// Whatever a BMC links to, the password goes to that BMC only.
    #[tokio::test]
    async fn no_link_leads_to_another_host() {
        let login = Login { user: "admin".to_owned(), password: Secret::new("secret".to_owned()) };
        let base = Url::parse("https://bmc.invalid/").unwrap();
        let bmc = Bmc { client: Client::new(), base, login: &login };
        for path in [
            "//other.invalid/x",
            "/\\other.invalid/x",
            "/\t/other.invalid/x",
            "/\n/other.invalid/x",
            "\\\\other.invalid/x",
            "https://other.invalid/x",
            "@other.invalid/x",
            "",
        ] {
            let sent = bmc.send(Method::GET, path, None, None).await;
            assert!(matches!(sent, Err(Trouble::Lasting(why)) if why.contains("no path of it")), "{path:?}");
        }
    }

    #[test]
    fn an_error_says_its_message() {
        let told =
            json!({ "error": { "message": "x", "@Message.ExtendedInfo": [{ "Message": "no power" }] } });
        assert_eq!(said(&told).unwrap(), "no power");
        assert_eq!(said(&json!({ "error": { "message": "busy" } })).unwrap(), "busy");
        assert_eq!(said(&json!("<html>")), None);
    }
}
