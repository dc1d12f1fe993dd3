//! What is counted, as Prometheus reads it (text exposition format 0.0.4).

mod machines;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::daemon::request::{
    Ask, Boots, Census, HookView, RegistryAsk, RegistryHandle, Stats, Webhooks, WebhooksAsk,
};
use crate::files::DocumentTokens;
use crate::host::stderr::lost_lines;
use crate::http::boots::TraceCounts;
use crate::http::{ConnectionStats as Connections, Pace};
use crate::images::{Counters, Images};
use boot_engine::diagnosis::{BUCKETS, Part};
use boot_engine::events::Counts;
use boot_engine::leases::LeaseState;
use boot_engine::tftp::TftpStats;

/// Where the stats come from.
#[derive(Clone)]
pub struct Sources {
    /// Leads to who counts packets and leases.
    pub asks: mpsc::Sender<Ask>,
    /// What became of HTTP connections.
    pub http: Arc<Connections>,
    /// What became of images.
    pub images: Arc<Images>,
    /// What secret documents are given for.
    pub tokens: Arc<DocumentTokens>,
    /// How often each machine reports what it consists of.
    pub inventories: Arc<Pace>,
    /// Each interface's transfers.
    pub tftp: Vec<(String, Arc<TftpStats>)>,
    /// What has happened.
    pub events: Arc<Counts>,
    /// Who counts machines.
    pub registry: RegistryHandle,
    /// The boots of every machine.
    pub boots: Boots,
    /// Who delivers events.
    pub webhooks: Webhooks,
    /// What has become of boots as traces.
    pub traces: Arc<TraceCounts>,
}

/// The route.
pub fn router(sources: Sources) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(sources)
}

/// How long the DHCP server may take to give its stats: less than who asks waits (Prometheus: 10 s).
const PATIENCE: Duration = Duration::from_secs(3);

async fn metrics(State(sources): State<Sources>) -> Response {
    let (sender, answer) = oneshot::channel();
    let asked = timeout(PATIENCE, async {
        sources.asks.send(Ask::Stats(sender)).await.ok()?;
        answer.await.ok()
    });
    let stats = match asked.await {
        Ok(Some(stats)) => Some(stats),
        // The daemon ends.
        Ok(None) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        // Its disk hangs, for example: a reason to be watched, and not to be missing.
        Err(_) => None,
    };
    let census = timeout(PATIENCE, sources.registry.ask(RegistryAsk::Count)).await;
    let census = census.ok().and_then(Result::ok);
    let hooks = timeout(PATIENCE, sources.webhooks.ask(WebhooksAsk::List)).await;
    let hooks = hooks.ok().and_then(Result::ok).unwrap_or_default();
    let page = page(stats.as_ref(), census.as_ref(), &hooks, &sources);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

/// Without `stats` it has what does not need the DHCP server.
fn page(stats: Option<&Stats>, census: Option<&Census>, hooks: &[HookView], sources: &Sources) -> String {
    let Sources { http, images, tokens, tftp, events, .. } = sources;
    let mut page = Page::default();
    page.family("xpxe_build_info", "gauge", "Always 1; the label is the version of xpxe.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family(
        "xpxe_dhcp_answers",
        "gauge",
        "1, or 0 while the DHCP server does not answer: then packets, leases, pools and store failures are missing.",
    );
    page.sample(&[], u64::from(stats.is_some()));
    if let Some(stats) = stats {
        of_dhcp(&mut page, stats);
    }
    of_events(&mut page, events);
    of_boots(&mut page, &sources.boots);
    of_traces(&mut page, sources);
    of_http(&mut page, http);
    of_images(&mut page, &images.counters);
    of_tokens(&mut page, tokens);
    of_tftp(&mut page, tftp);
    page.family(
        "xpxe_agent_inventories_refused_total",
        "counter",
        "Inventories that were not read, because their machine had sent several just before.",
    );
    page.sample(&[], sources.inventories.refused());
    if let Some(census) = census {
        machines::of_machines(&mut page, census);
    }
    webhooks::of_webhooks(&mut page, hooks, sources.webhooks.missed());
    page.text
}

fn of_dhcp(page: &mut Page, stats: &Stats) {
    page.family("xpxe_packets_total", "counter", "Packets by where and how they ended.");
    for (hook, reason, packets) in &stats.packets {
        page.sample(&[("hook", hook.name()), ("reason", reason.name())], *packets);
    }

    page.family("xpxe_leases", "gauge", "Machines with an address, by subnet and by how far it is theirs.");
    for held in &stats.held {
        for (state, machines) in LeaseState::BOUND.iter().zip(held.machines) {
            page.sample(&[("subnet", &held.subnet.to_string()), ("state", state.as_str())], machines);
        }
    }
    page.family("xpxe_pool_addresses", "gauge", "Addresses of the pools, by subnet and by who has them.");
    for pool in &stats.pools {
        for (state, addresses) in [("used", pool.used), ("resting", pool.resting), ("free", pool.free())] {
            page.sample(&[("subnet", &pool.subnet.to_string()), ("state", state)], addresses);
        }
    }
    page.family(
        "xpxe_pool_refused_total",
        "counter",
        "Requests that got no address because no pool had one.",
    );
    for pool in &stats.pools {
        page.sample(&[("subnet", &pool.subnet.to_string())], pool.refused);
    }

    page.family("xpxe_store_failures_total", "counter", "How often leases could not be stored.");
    page.sample(&[], stats.store_failures);
    page.family(
        "xpxe_store_waiting",
        "gauge",
        "Commands that wait for the disk, for the next commit of leases.",
    );
    page.sample(&[], stats.gathered as u64);
    page.family(
        "xpxe_store_waiting_full_total",
        "counter",
        "How often so many commands waited for the disk that requests had to wait in the sockets' buffers.",
    );
    page.sample(&[], stats.gathered_full);
}

fn of_events(page: &mut Page, events: &Counts) {
    page.family(
        "xpxe_events_total",
        "counter",
        "Steps of boots, and what kept machines from booting, by the log's step.",
    );
    for (kind, count) in events.by_kind() {
        page.sample(&[("step", kind.name())], count);
    }
    page.family(
        "xpxe_events_lost_total",
        "counter",
        "Events that a full queue had no room for, or a slow reader missed.",
    );
    for (queue, count) in [("engine", events.lost()), ("readers", events.missed())] {
        page.sample(&[("queue", queue)], count);
    }
    page.family(
        "xpxe_log_lines_lost_total",
        "counter",
        "Lines of the log that standard error did not take in time.",
    );
    page.sample(&[], lost_lines());
}

fn of_http(page: &mut Page, http: &Connections) {
    page.family("xpxe_http_connections", "gauge", "Open HTTP connections.");
    page.sample(&[], http.open());
    page.family(
        "xpxe_http_connections_crowded_out_total",
        "counter",
        "Idle HTTP connections that were closed to make room for new ones.",
    );
    page.sample(&[], http.crowded_out());
    page.family(
        "xpxe_http_connections_refused_total",
        "counter",
        "HTTP connections that were refused because their address had too many.",
    );
    page.sample(&[], http.refused());
    page.family("xpxe_http_bytes_total", "counter", "Bytes sent over HTTP, headers and TLS among them.");
    page.sample(&[], http.bytes());
}

fn of_images(page: &mut Page, images: &Counters) {
    page.family(
        "xpxe_images_total",
        "counter",
        "Fetches of images from upstreams, and what else became of images.",
    );
    for (what, count) in images.all() {
        page.sample(&[("what", what)], count);
    }
}

fn of_tokens(page: &mut Page, tokens: &DocumentTokens) {
    let (valid, dropped) = tokens.counts();
    page.family(
        "xpxe_document_tokens",
        "gauge",
        "Tokens of secret documents that were given out in scripts.",
    );
    page.sample(&[], valid as u64);
    page.family(
        "xpxe_document_tokens_dropped_total",
        "counter",
        "Tokens that ended because there were too many: those machines have to boot anew.",
    );
    page.sample(&[], dropped);
}

fn of_tftp(page: &mut Page, tftp: &[(String, Arc<TftpStats>)]) {
    page.family("xpxe_tftp_transfers", "gauge", "TFTP transfers under way.");
    for (interface, stats) in tftp {
        page.sample(&[("interface", interface)], stats.running());
    }
    page.family("xpxe_tftp_transfers_total", "counter", "TFTP transfers and requests by how they ended.");
    for (interface, stats) in tftp {
        for (end, transfers) in TftpStats::ENDS.iter().zip(stats.ended()) {
            page.sample(&[("interface", interface), ("end", end)], transfers);
        }
    }
    page.family(
        "xpxe_tftp_bytes_total",
        "counter",
        "Bytes of files that clients got in TFTP transfers that ended.",
    );
    for (interface, stats) in tftp {
        page.sample(&[("interface", interface)], stats.bytes());
    }
    page.family(
        "xpxe_tftp_crowded_out_total",
        "counter",
        "TFTP requests that were dropped, and idle transfers that were ended, because there were too many.",
    );
    for (interface, stats) in tftp {
        page.sample(&[("interface", interface)], stats.crowded_out());
    }
    page.family(
        "xpxe_tftp_blocks_left_out_total",
        "counter",
        "Blocks of TFTP files that were not read from the disk because too many waited for it; clients ask again.",
    );
    for (interface, stats) in tftp {
        page.sample(&[("interface", interface)], stats.left_out());
    }
}

fn of_boots(page: &mut Page, boots: &Boots) {
    let (steps, evicted, took) = {
        let timelines = boots.timelines();
        (timelines.steps() as u64, timelines.evicted(), timelines.took().clone())
    };
    page.family(
        "xpxe_boot_stage_seconds",
        "histogram",
        "How long the parts of boots took that got to their operating system.",
    );
    for part in Part::ALL {
        let stage = ("stage", part.name());
        let (below, all, sum) = took.of(part);
        for (most, count) in BUCKETS.iter().zip(below) {
            page.part("_bucket", &[stage, ("le", &seconds(*most))], &count.to_string());
        }
        page.part("_bucket", &[stage, ("le", "+Inf")], &all.to_string());
        page.part("_sum", &[stage], &seconds(sum));
        page.part("_count", &[stage], &all.to_string());
    }
    page.family("xpxe_boot_steps", "gauge", "Steps of machines' boots that are kept, 400,000 at most.");
    page.sample(&[], steps);
    page.family(
        "xpxe_boot_machines_forgotten_total",
        "counter",
        "Machines whose boots made room for others'.",
    );
    page.sample(&[], evicted);
    page.family(
        "xpxe_boot_notes_missed_total",
        "counter",
        "Steps of boots that came faster than they could be kept.",
    );
    page.sample(&[], boots.missed());
}

fn of_traces(page: &mut Page, Sources { traces, boots, .. }: &Sources) {
    page.family("xpxe_traces_total", "counter", "Boots that ended, as traces for the collector.");
    for (end, count) in traces.all() {
        page.sample(&[("end", end)], count);
    }
    let dropped = boots.timelines().ended_dropped();
    page.sample(&[("end", "dropped")], dropped);
}

/// Milliseconds in seconds, as Prometheus reads them.
fn seconds(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text, and the name that its next samples have.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.part("", labels, &value.to_string());
    }

    /// A sample of a family that has several kinds of them.
    fn part(&mut self, kind: &str, labels: &[(&str, &str)], value: &str) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.text += &format!("{}{kind}{labels} {value}\n", self.name);
    }
}

#[cfg(test)]
mod tests {
    use boot_common::Reason;
    use boot_common::tables::Hook;

    use super::*;
    use crate::store::Remote;
    use boot_engine::events::Kind;
    use boot_engine::leases::Held;
    use boot_engine::leases::Pool;
    use boot_engine::lifecycle::TimesInState;

    fn sources(tftp: Vec<(String, Arc<TftpStats>)>) -> Sources {
        let images = Images::new(&boot_engine::config::Config::empty(), Arc::new(()));
        let (asks, http, tokens, events) =
            (mpsc::channel(1).0, Arc::default(), Arc::default(), Arc::default());
        let inventories = Arc::default();
        let (registry, boots, webhooks) = (RegistryHandle::none(), Boots::default(), Webhooks::none());
        let traces = Arc::default();
        Sources { asks, http, images, tokens, inventories, tftp, events, registry, boots, webhooks, traces }
    }

    #[test]
    fn the_page_has_a_type_for_each_name_and_a_line_for_each_figure() {
        let stats = Stats {
            packets: vec![(Hook::Xdp, Reason::Offered, 12), (Hook::Daemon, Reason::Refused, u64::MAX)],
            held: vec![Held { subnet: "10.1.0.0/16".parse().unwrap(), machines: [1, 2, 3, 4] }],
            pools: vec![Pool {
                subnet: "10.1.0.0/16".parse().unwrap(),
                size: 10,
                used: 5,
                resting: 2,
                refused: 7,
            }],
            store_failures: 5,
            gathered: 6,
            gathered_full: 8,
        };
        let sources = sources(vec![("odd\"name\\".to_owned(), Arc::default())]);
        sources.events.add(Kind::Offer);
        sources.events.miss(3);
        let states = vec![(boot_engine::lifecycle::State::Ready, 21)];
        let mut times = TimesInState::default();
        times.add(boot_engine::lifecycle::State::Installing, 61);
        let census = Census {
            states,
            times,
            overdue: 22,
            database: Some(Remote { trouble: None, behind: 23 }),
            ..Census::default()
        };
        let hook = HookView { name: "chat".to_owned(), waiting: 31, died: 32, ..HookView::default() };
        let page = page(Some(&stats), Some(&census), &[hook], &sources);
        for line in [
            "# TYPE xpxe_packets_total counter",
            "xpxe_packets_total{hook=\"xdp\",reason=\"offered\"} 12",
            "xpxe_packets_total{hook=\"daemon\",reason=\"refused\"} 18446744073709551615",
            "xpxe_events_total{step=\"offer\"} 1",
            "xpxe_events_total{step=\"other-server\"} 0",
            "xpxe_events_lost_total{queue=\"readers\"} 3",
            "xpxe_leases{subnet=\"10.1.0.0/16\",state=\"leased\"} 2",
            "xpxe_leases{subnet=\"10.1.0.0/16\",state=\"reserved\"} 4",
            "xpxe_pool_addresses{subnet=\"10.1.0.0/16\",state=\"free\"} 3",
            "xpxe_pool_refused_total{subnet=\"10.1.0.0/16\"} 7",
            "xpxe_store_failures_total 5",
            "xpxe_store_waiting 6",
            "xpxe_store_waiting_full_total 8",
            "xpxe_dhcp_answers 1",
            "xpxe_machines{state=\"ready\"} 21",
            "xpxe_machines_overdue 22",
            "xpxe_machine_state_seconds_bucket{state=\"installing\",le=\"60\"} 0",
            "xpxe_machine_state_seconds_bucket{state=\"installing\",le=\"300\"} 1",
            "xpxe_machine_state_seconds_sum{state=\"installing\"} 61",
            "xpxe_webhook_waiting{webhook=\"chat\"} 31",
            "xpxe_webhook_events_total{webhook=\"chat\",end=\"dead\"} 32",
            "xpxe_webhook_missed_total 0",
            "xpxe_postgres_up 1",
            "xpxe_postgres_leases_behind 23",
            "xpxe_power_commands_total{command=\"reset-bmc\",end=\"failed\"} 0",
            "xpxe_power_readings_total{end=\"read\"} 0",
            "xpxe_http_connections 0",
            "xpxe_http_bytes_total 0",
            "xpxe_boot_stage_seconds_bucket{stage=\"address\",le=\"0.25\"} 0",
            "xpxe_boot_stage_seconds_bucket{stage=\"system\",le=\"+Inf\"} 0",
            "xpxe_boot_stage_seconds_sum{stage=\"kernel\"} 0",
            "xpxe_traces_total{end=\"dropped\"} 0",
            "xpxe_images_total{what=\"fetched\"} 0",
            "xpxe_document_tokens 0",
            "xpxe_agent_inventories_refused_total 0",
            "xpxe_document_tokens_dropped_total 0",
            "xpxe_tftp_transfers{interface=\"odd\\\"name\\\\\"} 0",
            "xpxe_tftp_transfers_total{interface=\"odd\\\"name\\\\\",end=\"finished\"} 0",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
        }
        let mut declared = "";
        for line in page.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(kind) => declared = kind.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => {
                    let name = line.split(['{', ' ']).next().unwrap();
                    let kinds = ["_bucket", "_sum", "_count"];
                    let family = kinds.iter().find_map(|kind| name.strip_suffix(kind)).unwrap_or(name);
                    assert!(name == declared || family == declared, "{line}");
                }
            }
        }
        assert!(page.ends_with('\n'));
    }

    #[tokio::test]
    async fn a_daemon_that_ends_is_no_page() {
        let (asks, asked) = mpsc::channel(1);
        drop(asked);
        let answer = metrics(State(Sources { asks, ..sources(Vec::new()) })).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_daemon_whose_disk_hangs_is_a_page_with_what_is_known() {
        // Somebody takes the question, and answers nobody.
        let (asks, _asked) = mpsc::channel(1);
        let tftp = vec![("eth0".to_owned(), Arc::default())];
        let answer = metrics(State(Sources { asks, ..sources(tftp) }));
        let answer = timeout(3 * PATIENCE, answer).await.expect("an answer in time");
        assert_eq!(answer.status(), StatusCode::OK);
        let page = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        for line in
            ["xpxe_dhcp_answers 0", "xpxe_http_connections 0", "xpxe_tftp_transfers{interface=\"eth0\"} 0"]
        {
            assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
        }
        assert!(
            !page.contains("xpxe_packets_total") && !page.contains("xpxe_store_failures_total"),
            "{page}"
        );
    }
}
