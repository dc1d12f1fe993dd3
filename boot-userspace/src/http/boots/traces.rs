//! Boots as traces in OTLP's JSON: one trace a boot, a span for each stage, and one for each file. Five shapes of JSON are
//! written here by hand: the libraries for it have gRPC and Protocol Buffers with them.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use boot_engine::diagnosis::{Boot, Cause, Timed, Verdict, What, parts};

/// OTLP's numbers.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// A boot that has ended, with what is known of it.
pub(super) struct Told {
    pub(super) boot: Boot,
    pub(super) verdict: Option<Verdict>,
    pub(super) address: Option<Ipv4Addr>,
    /// The machine's name, profile, relay, switch and so on. Of a key that comes twice the last one counts.
    pub(super) traits: Vec<(&'static str, String)>,
}

/// The request that tells a collector of these boots. `host`: this host's name.
pub(super) fn request(host: &str, boots: &[Told]) -> Value {
    let spans: Vec<Value> = boots.iter().flat_map(|told| spans(host, told)).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            text("service.name", "xpxe"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", host),
        ] },
        "scopeSpans": [{ "scope": { "name": "xpxe.boots" }, "spans": spans }],
    }] })
}

/// The spans of one trace. Two servers that hear the same boot make two traces of it.
struct Trace<'t> {
    id: [u8; 32],
    told: &'t Told,
    spans: Vec<Value>,
}

/// When a span began and ended, in milliseconds since the Unix epoch.
type Times = (u64, u64);

fn spans(host: &str, told: &Told) -> Vec<Value> {
    let Told { boot, verdict, .. } = told;
    let id = Sha256::new().chain_update(boot.mac.0).chain_update(boot.opened.to_be_bytes());
    let mut trace = Trace { id: id.chain_update(host).finalize().into(), told, spans: Vec::new() };
    let failed = verdict.as_ref().filter(|verdict| is_failure(verdict.cause));
    let root = trace.span_id(0);
    let mut stages: Vec<(String, Times)> = Vec::new();
    let mut begun = boot.steps.first().map_or(boot.opened, |step| step.at);
    for took in parts(boot) {
        let times = (begun, begun + took.millis);
        stages.push((trace.add(&root, took.part.name(), INTERNAL, times, &[], None), times));
        begun = times.1;
    }
    let home = boot.steps.iter().rev().find(|step| matches!(step.what, What::PhoneHome { .. }));
    if let Some(step) = home.filter(|step| step.at > begun) {
        trace.add(&root, "phone-home", INTERNAL, (begun, step.at), &[], None);
    } else if let Some(verdict) = failed {
        let times = (begun, boot.last().max(begun));
        stages.push((trace.add(&root, "stopped", INTERNAL, times, &[], Some(verdict.cause.says())), times));
    }
    for step in &boot.steps {
        let Some(fetch) = Fetch::of(step) else { continue };
        let is_around = |(_, (from, to)): &&(String, Times)| (*from..=*to).contains(&fetch.times.1);
        let parent = stages.iter().find(is_around).map_or(&root, |(id, _)| id).clone();
        let name = format!("{} {}", fetch.protocol, fetch.file);
        trace.add(&parent, &name, SERVER, fetch.times, &fetch.attributes(), fetch.failure.as_deref());
    }
    trace.root(failed);
    trace.spans
}

fn is_failure(cause: Cause) -> bool {
    cause.is_wrong() && !matches!(cause, Cause::Slow | Cause::LateLink)
}

impl Trace<'_> {
    /// The root is number 0, so it is told last: the others know its name.
    fn span_id(&self, number: usize) -> String {
        let id = Sha256::new().chain_update(self.id).chain_update(number.to_be_bytes()).finalize();
        hex(id.get(..8).unwrap_or_default())
    }

    fn trace_id(&self) -> String {
        hex(self.id.get(..16).unwrap_or_default())
    }

    /// Adds a span, and gives its name.
    fn add(
        &mut self,
        parent: &str,
        name: &str,
        kind: u8,
        times: Times,
        more: &[Value],
        failure: Option<&str>,
    ) -> String {
        let id = self.span_id(self.spans.len() + 1);
        self.spans.push(json!({
            "traceId": self.trace_id(),
            "spanId": id,
            "parentSpanId": parent,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": nanos(times.0),
            "endTimeUnixNano": nanos(times.1),
            "attributes": more,
            "status": failure.map_or_else(|| json!({}), |why| json!({ "code": ERROR, "message": why })),
        }));
        id
    }

    fn root(&mut self, failed: Option<&Verdict>) {
        let Told { boot, verdict, address, traits } = self.told;
        let mut attributes = vec![("boot.mac".to_owned(), boot.mac.to_string())];
        attributes.extend(address.map(|address| ("boot.address".to_owned(), address.to_string())));
        for (kind, value) in traits {
            let key = format!("boot.{}", kind.replace(' ', "_"));
            attributes.retain(|(known, _)| *known != key);
            attributes.push((key, value.clone()));
        }
        if let Some(verdict) = verdict {
            let sure = format!("{:?}", verdict.sure).to_lowercase();
            attributes.push(("boot.cause".to_owned(), verdict.cause.name().to_owned()));
            attributes.push(("boot.sure".to_owned(), sure));
            attributes.push(("boot.because".to_owned(), verdict.because.clone()));
            if failed.is_some() {
                attributes.push(("boot.remedy".to_owned(), verdict.cause.remedy().to_owned()));
            }
        }
        let attributes: Vec<Value> = attributes.iter().map(|(key, value)| text(key, value)).collect();
        let status = match (failed, verdict.as_ref().map(|verdict| verdict.cause)) {
            (Some(verdict), _) => json!({ "code": ERROR, "message": verdict.cause.says() }),
            (None, Some(Cause::Boots | Cause::Slow | Cause::LateLink)) => json!({ "code": OK }),
            (None, _) => json!({}),
        };
        let root = json!({
            "traceId": self.trace_id(),
            "spanId": self.span_id(0),
            "name": "boot",
            "kind": INTERNAL,
            "startTimeUnixNano": nanos(boot.opened),
            "endTimeUnixNano": nanos(boot.last().max(boot.opened)),
            "attributes": attributes,
            "events": boot.steps.iter().map(event).collect::<Vec<Value>>(),
            "droppedEventsCount": boot.more,
            "status": status,
        });
        self.spans.insert(0, root);
    }
}

/// A step of the boot.
fn event(step: &Timed) -> Value {
    let serialized = serde_json::to_value(step).unwrap_or_default();
    let word = |key: &str| serialized.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    json!({
        "timeUnixNano": nanos(step.at),
        "name": word("step"),
        "attributes": [text("says", &step.what.to_string()), text("by", &word("by")), number("count", u64::from(step.count))],
    })
}

/// A file that a machine asked for.
struct Fetch<'s> {
    protocol: &'static str,
    file: &'s str,
    bytes: Option<u64>,
    times: Times,
    /// Why it did not get it.
    failure: Option<String>,
}

impl<'s> Fetch<'s> {
    fn of(step: &'s Timed) -> Option<Self> {
        let (protocol, file, bytes, millis) = match &step.what {
            What::TftpSent { file, bytes, millis, .. } => ("TFTP", file, Some(*bytes), *millis),
            What::TftpStalled { file, bytes, .. } => ("TFTP", file, Some(*bytes), 0),
            What::TftpMissing { file, .. } | What::TftpAborted { file, .. } => ("TFTP", file, None, 0),
            What::FileSent { file, bytes, millis } => ("HTTP", file, Some(*bytes), *millis),
            What::FileCut { file, bytes, .. } => ("HTTP", file, Some(*bytes), 0),
            What::FileMissing { file, .. } => ("HTTP", file, None, 0),
            _ => return None,
        };
        let is_whole = matches!(step.what, What::TftpSent { .. } | What::FileSent { .. });
        let failure = (!is_whole).then(|| step.what.to_string());
        let times = (step.last.saturating_sub(millis), step.last);
        Some(Self { protocol, file, bytes, times, failure })
    }

    fn attributes(&self) -> Vec<Value> {
        let bytes = self.bytes.map(|bytes| number("file.size", bytes));
        bytes.into_iter().chain([text("file.path", self.file)]).collect()
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// JSON has no numbers of 64 bits, so OTLP writes them as text.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(millis: u64) -> String {
    (u128::from(millis) * 1_000_000).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
