//! Puts the parts together and runs them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use super::boots::Keeper;
use super::event_loop::Daemon;
use super::fast_path::{Started, attach, start_fast_path};
use super::limit::Limit;
use super::link_monitor::{LinkMonitor, Monitored};
use super::listening::{ApiSocket, HTTP, HTTPS, cannot_listen};
use super::misfits::{Misfits, misfits};
use super::reload::{Load, REQUESTS, Reloader};
use super::request::{Boots, ParametersHandle, RegistryHandle, Webhooks};
use super::served_link::served_link;
use super::signals::Signals;
use super::watch::watch;
use super::{log, notify, parameters, registry, unheard, watched, webhooks};
use crate::fastpath::{self, Found};
use crate::files::{BootFiles, DocumentTokens};
use crate::host::clock::now;
use crate::host::link::{self, Link};
use crate::host::live::Live;
use crate::host::memory;
use crate::host::stderr::lost_lines;
use crate::http::metrics::Sources;
use crate::http::{self, Certificate, Https, Listeners, Site, Tls};
use crate::images::Images;
use crate::io::sockets::Sockets;
use crate::io::tftp::{self, TftpServer};
use crate::power::Switch;
use crate::store::{self, Store};
use boot_engine::Engine;
use boot_engine::boot::parameters::BootParameters;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, DhcpRole, FastPath as Hook, Interface};
use boot_engine::events::Events;
use boot_engine::machines::Machines;
use boot_engine::policy::Policy;

/// How long the database may take to get what is in the journal when the daemon ends.
const LAST: Duration = Duration::from_secs(2);
/// How long those who follow events or machines may take to read that the daemon ends.
const FAREWELL: Duration = Duration::from_millis(300);

/// Serves until a signal says that it is over: DHCP and TFTP on this thread, HTTP on the threads of `delivery`. `load` reads
/// the configuration anew.
///
/// # Errors
/// One sentence that says what to do.
pub async fn serve(
    config: Config,
    files: BootFiles,
    kernel_log: bool,
    limit: Limit,
    delivery: &Handle,
    load: Load,
) -> Result<()> {
    // Before anything is started: a signal must never find the daemon unprepared.
    let signals = Signals::listen()?;
    // A daemon that runs is named before anything of its is touched.
    let lock = store::lock(&config.state_dir)?;
    let files = Arc::new(files);
    let links = config
        .interfaces
        .iter()
        .map(|interface| Ok(link::find(&interface.name)?))
        .collect::<Result<Vec<Link>>>()?;
    let Misfits { errors, warnings } = misfits(&config, &link::addresses()?);
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    warnings.iter().for_each(|sentence| warn!("{sentence}"));
    let http_socket =
        http::reserve(config.http.listen).map_err(|error| cannot_listen(HTTP, config.http.listen, error))?;
    let http_port = http_socket.local_addr()?.port();
    let mut tls = None;
    if let Some(settings) = &config.http.tls {
        let certificate = Certificate::read(settings)?;
        certificate.warnings().iter().for_each(|sentence| warn!("{sentence}"));
        let socket =
            http::reserve(settings.listen).map_err(|error| cannot_listen(HTTPS, settings.listen, error))?;
        tls = Some((socket, Tls::new(settings, certificate)));
    }
    let api = config.api.as_ref().map(ApiSocket::reserve).transpose()?;
    // Another server is named before anything is changed. The ports themselves are for those who can answer at once.
    let mut beside = HashSet::new();
    for (interface, link) in config.interfaces.iter().zip(&links) {
        if interface.dhcp != DhcpRole::Off && Sockets::open(link, interface.dhcp)?.is_beside() {
            beside.insert(link.index);
        }
        tftp::bind(link)?;
    }
    let config = Arc::new(config);

    let store = Store::open_alone(&config.state_dir, lock).await?.follow(config.store.as_ref()).await?;
    let written = BootParameters::default();
    written.replace(store::boot_parameters::read(&config.state_dir)?);
    let admin = http::admin::listen(&config.state_dir)?;
    let interfaces = config.interfaces.iter().zip(&links);
    let served =
        interfaces.map(|(interface, link)| served_link(&config, interface, link, http_port)).collect();
    let loader =
        |firmware| files.loader_for(firmware).map(str::to_owned).map_err(|missing| missing.to_string());
    let machines = Machines::new(config.machines.iter().cloned())?;
    let records = registry::load(&store, &machines, &config).await?;
    let policy = Policy::new(Arc::clone(&config), machines.clone(), served, loader);
    let mut engine = Engine::new(policy, &store.leases().await?, now());

    for link in &links {
        fastpath::refuse_another(&config.pin_dir, (&link.name, link.index))?;
    }
    let Started { tables, events: kernel_events, mut hooks, transfers } =
        start_fast_path(&config, &mut engine, kernel_log)?;
    let stream = log::events();
    let boots = Boots::new(u64::try_from(now().wall.as_millis()).unwrap_or(0));
    let boots_keeper = config.boots.then(|| {
        stream.note_in(boots.clone());
        Keeper::start(boots.clone(), &config.state_dir)
    });
    let events: Events = Arc::new(stream.clone());
    let key = http::link_key(&config.state_dir)?;
    let scripts = ScriptWriter::new(Arc::clone(&config))?.with_key(&key).with_parameters(&written);
    let scripts = Live::new(scripts);
    let tokens = Arc::<DocumentTokens>::default();
    let writer = tftp::Writer { scripts: scripts.clone(), http_port, tokens: Arc::clone(&tokens) };
    let tftp =
        tftp::prepare(&config, Arc::clone(&files), machines.clone(), Arc::clone(&events), writer, transfers)?;
    let tftp_clients = tftp.clients();
    let mut daemon = Daemon::new(engine, store.clone(), beside, tables, stream.clone());
    let adopted = hooks.as_ref().is_some_and(|fast_path| matches!(fast_path.found, Found::Tables { .. }));
    let stale = daemon.fill_tables(adopted).await?;
    if stale > 0 {
        info!("removed {stale} entries from the kernel's tables that the configuration no longer has");
    }
    if let Some(fast_path) = &mut hooks {
        for (interface, link) in config.interfaces.iter().zip(&links) {
            attach(&config.pin_dir, interface, link, fast_path)?;
        }
    }
    memory::give_back();

    // DHCP last: whom it answers goes on to the others.
    let tftp = tftp.open(&config, &links)?;
    let listeners = {
        let _registers_there = delivery.enter();
        let listen = |socket: TcpSocket, what, address| {
            http::listen(socket).map_err(|error| cannot_listen(what, address, error))
        };
        let https = match (tls, &config.http.tls) {
            (Some((socket, tls)), Some(settings)) => Some(Https {
                listener: listen(socket, HTTPS, settings.listen)?,
                tls,
                events: Arc::clone(&events),
            }),
            _ => None,
        };
        Listeners { http: listen(http_socket, HTTP, config.http.listen)?, https }
    };
    let api = api.map(|api| api.listen(delivery)).transpose()?;
    let mut sockets = Vec::new();
    for (interface, link) in config.interfaces.iter().zip(&links) {
        if interface.dhcp != DhcpRole::Off {
            let opened = Sockets::open(link, interface.dhcp)?;
            let name = &interface.name;
            opened.say_beside(name);
            if opened.is_beside() && interface.fast_path != Hook::Off {
                info!(
                    interface = name,
                    "{name}: the fast path serves TFTP only, because the other server on port 67 would not hear DHCP requests that it answers"
                );
            }
            sockets.push(opened);
        }
    }

    let readiness = http::Readiness::default();
    if hooks.is_none() && config.interfaces.iter().any(|interface| interface.fast_path != Hook::Off) {
        let note = "there is no fast path, the daemon answers everything; the log says why";
        readiness.set_note("the fast path", Some(note.to_owned()));
    }
    let stats: Vec<_> = tftp.iter().map(TftpServer::stats).collect();
    if hooks.is_some() {
        let has_kernel = |interface: &&Interface| interface.fast_path != Hook::Off;
        let watched = config.interfaces.iter().zip(&stats).filter(|(interface, _)| has_kernel(interface));
        let watched = watched.map(|(_, stats)| stats.clone()).collect();
        tokio::spawn(unheard::watch(daemon.asks(), watched, Arc::clone(&events)));
    }
    let (links_follow, followed) = tokio::sync::watch::channel(Arc::clone(&config));
    let (hooks_way, hooks_ends) = Webhooks::new();
    webhooks::start(followed.clone(), machines.clone(), hooks_way.clone(), hooks_ends)?;
    stream.tell(hooks_way.clone());
    let link_monitor = LinkMonitor {
        config: followed,
        http_port,
        monitored: links
            .iter()
            .zip(&tftp)
            .map(|(link, tftp)| Monitored::new(link.clone(), tftp.rebinds()))
            .collect(),
        machines: machines.clone(),
        events: Arc::clone(&events),
        dhcp: daemon.rebinds(),
        fast_path: hooks,
        readiness: readiness.clone(),
        background: delivery.clone(),
    };
    for (link, server) in links.iter().zip(tftp) {
        let (name, readiness) = (link.name.clone(), readiness.clone());
        tokio::spawn(async move {
            let ended = tokio::spawn(server.run()).await;
            let why = format!("the TFTP server of {name} has ended by itself ({ended:?}): restart xpxe");
            readiness.tell_trouble(&format!("TFTP on {name}"), Some(why));
        });
    }
    let images = Images::new(&config, Arc::clone(&events));
    images.look_over();
    images.follow_written(&written.get());
    let (boot_parameters, changes) = ParametersHandle::new(written.clone());
    let parameters_keeper = parameters::Keeper {
        table: written,
        state_dir: config.state_dir.clone(),
        scripts: scripts.clone(),
        images: Arc::clone(&images),
    };
    delivery.spawn(parameters_keeper.run(changes));
    let (registry, registry_asks) = RegistryHandle::new();
    let keeper = registry::Keeper::new(
        records,
        store.clone(),
        machines.clone(),
        scripts.clone(),
        stream.clone(),
        daemon.asks(),
        Switch::new(&config.bmc, &config.state_dir),
    );
    delivery.spawn(keeper.with_readiness(readiness.clone()).run(registry_asks));
    let (reloads, requests) = mpsc::channel(REQUESTS);
    let reloader = Reloader {
        load: Arc::new(load),
        running: Arc::clone(&config),
        files: Arc::clone(&files),
        images: Arc::clone(&images),
        tls: listeners.https.as_ref().map(|https| https.tls.clone()),
        delivery: delivery.clone(),
        asks: daemon.asks(),
        scripts: scripts.clone(),
        link_key: key,
        tftp_clients,
        links: links_follow,
        registry: registry.clone(),
    };
    tokio::spawn(reloader.run(requests));
    let (live_scripts, known) = (scripts.clone(), machines.clone());
    let scripts = Arc::new(scripts);
    let trusted_proxies = config.http.trusted_proxies.clone().into();
    let sink = Arc::clone(&events);
    let (read_ahead, images_counted) = (Arc::clone(&images), Arc::clone(&images));
    delivery.spawn_blocking(move || read_ahead.read_ahead());
    delivery.spawn(Arc::clone(&images).keep_signed());
    let history = Arc::default();
    let inventories = Arc::<http::Pace>::default();
    let catalog = http::catalog::Catalog {
        scripts: live_scripts.clone(),
        machines: known.clone(),
        images: Arc::clone(&images),
        worker: delivery.clone(),
    };
    let site = Site {
        files,
        images,
        machines,
        scripts,
        trusted_proxies,
        readiness: readiness.clone(),
        events,
        history,
        tokens: Arc::clone(&tokens),
        inventories: Arc::clone(&inventories),
        registry: registry.clone(),
        boot_parameters,
    };
    let connections = Arc::<http::ConnectionStats>::default();
    let traces = Arc::<http::boots::TraceCounts>::default();
    let sources = Sources {
        asks: daemon.asks(),
        http: Arc::clone(&connections),
        images: images_counted,
        tokens,
        inventories,
        tftp: stats,
        events: stream.counts(),
        registry: registry.clone(),
        boots: boots.clone(),
        webhooks: hooks_way.clone(),
        traces: Arc::clone(&traces),
    };
    let metrics = http::metrics::router(sources);
    let routes = http::router(site).merge(metrics.clone());
    let settings = config.http.clone();
    let (served, api_events) = (Arc::clone(&connections), Arc::clone(&sink));
    let http = delivery.spawn(async move { http::serve(listeners, routes, &settings, served, sink).await });
    let history = http::boots::History {
        boots,
        events: stream.clone(),
        machines: known,
        scripts: live_scripts,
        asks: daemon.asks(),
        worker: delivery.clone(),
        wall: http::boots::Wall::default(),
        overviews: http::boots::Overviews::default(),
        never_seen: http::boots::NeverSeen::default(),
        connections: Arc::clone(&connections),
    };
    if config.boots {
        delivery.spawn(http::boots::send_traces(Arc::new(history.clone()), traces));
    }
    let routes = http::leases::router(daemon.asks())
        .merge(http::admin::reload_router(reloads.clone()))
        .merge(http::machines::router(registry, history.clone()))
        .merge(http::webhooks::router(hooks_way))
        .merge(http::catalog::router(catalog))
        .merge(http::boots::router(history));
    let api_tokens = http::api::Tokens::open(&config.state_dir);
    if let (Some(api), Some(settings)) = (api, &config.api) {
        let guard = http::api::Guard::new(api_tokens.clone(), settings.public_read);
        let router = http::api::router(routes.clone(), metrics, guard);
        delivery.spawn(http::api::serve(api.listener, api.tls, router, api_events));
    }
    tokio::spawn(http::admin::serve(admin, http::api::local_router(routes, api_tokens)));
    // Beside the packet thread, which may be what does not answer.
    delivery.spawn(watch(readiness.clone(), daemon.asks(), config.state_dir.clone(), store.clone()));
    let asks = daemon.asks();
    let dhcp = tokio::spawn(daemon.run(sockets, kernel_events));
    readiness.set_started();

    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    say_ports(&config);
    info!(interfaces = names.join(","), http = %config.http.listen, "ready");
    notify::ready();
    tokio::spawn(keep_short(limit));
    tokio::spawn(link_monitor.run());
    tokio::select! {
        () = signals.end(reloads) => drop(timeout(FAREWELL, connections.stop()).await),
        // A bug: whoever started us starts us again, and the kernel half goes on meanwhile.
        ended = http => bail!("the HTTP server ended by itself: {ended:?}"),
        ended = dhcp => bail!("the DHCP server ended by itself: {ended:?}"),
    }
    // A backup, or an older xpxe, knows only the database. What it does not take now stays in the journal.
    drop(timeout(LAST, store.deliver()).await);
    if let Some(keeper) = boots_keeper {
        keeper.end();
    }
    // As late as can be: whoever records sees the daemon's end only after this.
    watched::give_back(&asks).await;
    // So that nobody takes it for a daemon that has died; the next one replaces it anyway.
    std::fs::remove_file(http::admin::socket(&config.state_dir)).ok();
    info!("stopped; pinned kernel programs keep answering known machines (xpxe detach removes them)");
    Ok(())
}

/// Which port serves what: for who opens a firewall, or looks for the one that another program has.
fn say_ports(config: &Config) {
    for Interface { name, dhcp, .. } in &config.interfaces {
        let dhcp = match dhcp {
            DhcpRole::Server => "addresses and boot files by DHCP on UDP ports 67 and 4011",
            DhcpRole::Proxy => "boot files beside another DHCP server (proxy) on UDP ports 67 and 4011",
            DhcpRole::Off => "no DHCP",
        };
        info!(interface = name, "{name}: {dhcp}, files by TFTP on UDP port 69");
    }
    info!("scripts and files by HTTP on {}", config.http.listen);
    if let Some(api) = &config.api {
        let scheme = if api.tls.is_some() { "https" } else { "http" };
        info!("the dashboard and the API on {scheme}://{}/ui/", api.listen);
    }
    if let Some(tls) = &config.http.tls {
        info!("scripts and files by HTTPS on {}", tls.listen);
    }
}

/// Keeps the log within its limit from now on.
async fn keep_short(limit: Limit) {
    limit.begin();
    let mut second = interval(Duration::from_secs(1));
    let mut told = lost_lines();
    loop {
        second.tick().await;
        limit.next_second();
        let lost = lost_lines();
        if lost > told {
            warn!("{} lines of the log are lost: what reads it did not take them in time", lost - told);
            told = lost;
        }
    }
}
