//! Sends boots that have ended to a collector of traces. Nobody waits for it: what the collector does not take is counted.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use boot_common::Mac;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::time::sleep;
use tracing::{info, warn};

use super::History;
use super::traces::{Told, request};
use crate::host::{clock, link};
use boot_engine::diagnosis::Member;

/// How often it is looked whether boots have ended.
const EVERY: Duration = Duration::from_secs(2);
/// So many boots are sent at once: about 1 MB.
const AT_ONCE: usize = 100;
/// The waits between tries; after the last one these boots are given up.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// For one request.
const WITHIN: Duration = Duration::from_secs(10);

/// What has become of boots as traces.
#[derive(Debug, Default)]
pub struct TraceCounts {
    sent: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

impl TraceCounts {
    /// How many boots the collector has taken; how many it did not; and how many were forgotten before they could be sent.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Relaxed);
        [("sent", of(&self.sent)), ("failed", of(&self.failed)), ("lost", of(&self.lost))]
    }
}

/// Sends what ends, for ever.
pub async fn send_traces(history: Arc<History>, counts: Arc<TraceCounts>) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let mut client = None;
    // What was said last of the collector: nothing, or why it takes nothing.
    let mut trouble: Option<String> = None;
    loop {
        let collector = history.scripts.get().planner().config().traces.otlp.clone();
        let now = u64::try_from(clock::now().wall.as_millis()).unwrap_or(u64::MAX);
        let (ended, forgotten) = {
            let mut timelines = history.boots.timelines();
            (timelines.take_ended(now, AT_ONCE), timelines.take_ended_forgotten())
        };
        if collector.is_some() {
            counts.lost.fetch_add(forgotten, Relaxed);
        }
        if ended.is_empty() {
            sleep(EVERY).await;
            continue;
        }
        // Without a collector they are taken, too, so that one that comes later gets no old ones.
        let Some(collector) = collector else { continue };
        let count = ended.len() as u64;
        let (judges, name) = (Arc::clone(&history), host.clone());
        let judged = history.worker.spawn_blocking(move || {
            let told = judges.told(&ended);
            (told.len() as u64, request(&name, &told).to_string())
        });
        let Ok((known, body)) = judged.await else { return };
        counts.lost.fetch_add(count - known, Relaxed);
        if known == 0 {
            continue;
        }
        match post(&mut client, &format!("{collector}/v1/traces"), &body).await {
            Ok(()) => {
                counts.sent.fetch_add(known, Relaxed);
                if trouble.take().is_some() {
                    info!("the collector of traces, {collector}, takes boots again");
                }
            }
            Err(why) => {
                counts.failed.fetch_add(known, Relaxed);
                if trouble.as_ref() != Some(&why) {
                    warn!(
                        "boots do not get to the collector of traces ([traces] otlp): {why}; machines do not notice"
                    );
                }
                trouble = Some(why);
            }
        }
    }
}

async fn post(kept: &mut Option<Client>, url: &str, body: &str) -> Result<(), String> {
    let client = match kept {
        Some(client) => client,
        None => {
            // Whoever was first has chosen the same.
            rustls::crypto::ring::default_provider().install_default().ok();
            let agent = concat!("xpxe/", env!("CARGO_PKG_VERSION"));
            let builder = || Client::builder().user_agent(agent).timeout(WITHIN).redirect(Policy::none());
            // A system without any certificates is enough for plain HTTP.
            let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
            kept.insert(client.map_err(|error| format!("TLS cannot be prepared: {error}"))?)
        }
    };
    let mut waits = RETRIES.iter();
    loop {
        let sent =
            client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_owned()).send().await;
        let (why, is_passing) = match sent {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => (format!("{url} answers {}", answer.status()), is_passing(answer.status())),
            Err(error) => (format!("{url} does not answer ({})", innermost(&error)), true),
        };
        match waits.next().filter(|_| is_passing) {
            Some(wait) => sleep(*wait).await,
            None => return Err(why),
        }
    }
}

/// The answers after which OTLP has a client try again.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl History {
    /// These boots with their verdicts; without those that were forgotten since.
    fn told(&self, ended: &[(Mac, u64)]) -> Vec<Told> {
        let macs: Vec<Mac> = ended.iter().map(|(mac, _)| *mac).collect();
        let around = self.around();
        let boots = self.copied(&macs);
        let told = ended.iter().zip(&boots).filter_map(|((mac, opened), of)| {
            let nth = of.boots.iter().position(|boot| boot.opened == *opened)?;
            let boot = of.boots.get(nth)?;
            let verdict = self.verdict(&around, of, nth);
            let mut traits = Vec::new();
            if let Some(verdict) = &verdict {
                let member = self.member(*mac, boot, verdict.clone());
                traits.extend(member.name.map(|name| ("machine", name)));
                traits.extend(member.traits);
            }
            let address = Member::address(boot);
            // Who is on the interface's own network is behind no relay.
            if let (Some(address), Some(name)) = (address, &boot.link)
                && link::find(name).is_ok_and(|link| link.addresses.iter().any(|net| net.contains(&address)))
            {
                traits.retain(|(kind, _)| *kind != "relay");
            }
            Some(Told { boot: boot.clone(), verdict, address, traits })
        });
        told.collect()
    }
}
