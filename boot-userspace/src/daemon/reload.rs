//! Reads the configuration anew and has it served, whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::misfits::misfits;
use super::request::{Ask, RegistryHandle, ReloadRequest};
use crate::files::BootFiles;
use crate::host::link;
use crate::host::live::Live;
use crate::http::{Certificate, Tls};
use crate::images::Images;
use crate::io::tftp::Clients;
use boot_engine::boot::link::LinkKey;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, DhcpRole};
use boot_engine::machines::Machines;
use boot_engine::policy::{Loaders, loaders};
use boot_engine::reload::{Changes, changes, live};

/// Reads the configuration that the daemon was started with, as it is now. An error has a line for each problem.
pub type Load = Box<dyn Fn() -> Result<Config> + Send + Sync>;

/// How long reading the configuration may take. A million machines take seconds.
const READING: Duration = Duration::from_secs(60);

/// How many wait for a reload at once; further ones wait at their connections.
pub(super) const REQUESTS: usize = 4;

/// What a reload reads, and all that it changes.
pub(super) struct Reloader {
    pub(super) load: Arc<Load>,
    /// The configuration that is served.
    pub(super) running: Arc<Config>,
    pub(super) files: Arc<BootFiles>,
    pub(super) images: Arc<Images>,
    /// What HTTPS shows, if there is any.
    pub(super) tls: Option<Tls>,
    /// Who reads images that are new, nicer than packets are answered.
    pub(super) delivery: Handle,
    /// Who serves DHCP.
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) scripts: Live<ScriptWriter>,
    /// What they sign links with, if they are to.
    pub(super) link_key: LinkKey,
    pub(super) tftp_clients: Clients,
    /// Whose interfaces' addresses are those that machines find.
    pub(super) links: watch::Sender<Arc<Config>>,
    /// Whose machines go behind those of the configuration.
    pub(super) registry: RegistryHandle,
}

impl Reloader {
    /// Reloads whenever it is asked to.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        while let Some(reply) = requests.recv().await {
            let done = self.reload().await;
            say(&done);
            // Who asked by a signal, or has hung up, wants no answer.
            drop(reply.send(done));
        }
    }

    async fn reload(&mut self) -> Result<Changes, Vec<String>> {
        let (load, files) = (Arc::clone(&self.load), Arc::clone(&self.files));
        // With many machines it takes a while, and machines are served meanwhile.
        let running = Arc::clone(&self.running);
        let read = timeout(READING, spawn_blocking(move || read(&load, &files, &running))).await;
        let read = read.map_err(|_| {
            let seconds = READING.as_secs();
            vec![format!(
                "the configuration was not read within {seconds} seconds: look whether the disk that it is on answers"
            )]
        })?;
        let (new, loaders, certificate) =
            read.map_err(|failure| vec![format!("the configuration was not read: {failure}")])??;
        let mut changes = changes(&self.running, &new);
        let config = Arc::new(live(&self.running, new));
        refuse_mixture(&config)?;
        let scripts = ScriptWriter::new(Arc::clone(&config))
            .map_err(|faults| faults.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let (reply, done) = oneshot::channel();
        let stopping = |_| vec!["xpxe is stopping: reload it when it runs again".to_owned()];
        let ask = Ask::Reload { config: Arc::clone(&config), loaders, reply };
        self.asks.send(ask).await.map_err(|_| stopping(()))?;
        done.await.map_err(|_| stopping(()))?.map_err(|failure| vec![failure.to_string()])?;
        let written = self.scripts.get().planner().parameters().clone();
        self.scripts.replace(scripts.with_key(&self.link_key).with_parameters(&written));
        self.tftp_clients.follow(&config);
        self.files.follow(&config);
        self.links.send_replace(Arc::clone(&config));
        self.images.follow(&config);
        if let (Some(tls), Some(settings), Some(certificate)) = (&self.tls, &config.http.tls, certificate) {
            tls.replace(settings, certificate);
        }
        // With many machines whose states change it takes long: the certificate is not to wait for it.
        changes.not_served = self.registry.reloaded().await;
        let images = Arc::clone(&self.images);
        self.delivery.spawn_blocking(move || images.read_ahead());
        self.running = config;
        Ok(changes)
    }
}

/// The configuration as it is in its files now, if it is good, with the boot files by kind of firmware and the certificate.
fn read(
    load: &Load,
    files: &BootFiles,
    running: &Config,
) -> Result<(Config, Loaders, Option<Certificate>), Vec<String>> {
    let lines = |error: anyhow::Error| format!("{error:#}").lines().map(str::to_owned).collect::<Vec<_>>();
    let config = load().map_err(lines)?;
    let addresses = link::addresses().map_err(|error| lines(error.into()))?;
    let misfits = misfits(&config, &addresses);
    if !misfits.errors.is_empty() {
        return Err(misfits.errors);
    }
    misfits.warnings.iter().for_each(|sentence| warn!("{sentence}"));
    // At the restart that they wait for they would be errors.
    let is_new = |name: &str| running.interfaces.iter().all(|interface| interface.name != name);
    for name in config.interfaces.iter().map(|interface| interface.name.as_str()).filter(|name| is_new(name))
    {
        if let Err(error) = link::find(name) {
            warn!("{error}: xpxe will not start with this configuration before it is there");
        }
    }
    // Two machines with something in common are found before anything is changed.
    Machines::new(config.machines.iter().cloned()).map_err(|conflict| lines(anyhow!(conflict)))?;
    let loader =
        |firmware| files.loader_for(firmware).map(str::to_owned).map_err(|missing| missing.to_string());
    let certificate = config.http.tls.as_ref().map(Certificate::read).transpose();
    let certificate = certificate.map_err(|wrong| lines(wrong.into()))?;
    certificate.iter().flat_map(Certificate::warnings).for_each(|sentence| warn!("{sentence}"));
    Ok((config, loaders(loader), certificate))
}

/// What waits for a restart and what does not may be good together, and bad apart.
fn refuse_mixture(config: &Config) -> Result<(), Vec<String>> {
    let gives_addresses = config.interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server);
    let has_addresses = !config.subnets.is_empty()
        && (config.subnets.iter().any(|subnet| !subnet.pool.is_empty())
            || config.machines.iter().any(|machine| machine.ip.is_some()));
    if gives_addresses && !has_addresses {
        return Err(vec![
            "the new configuration has no addresses to give, and the interfaces that xpxe was started with are DHCP \
             servers until it is restarted: restart it (systemctl restart xpxe)"
                .to_owned(),
        ]);
    }
    Ok(())
}

fn say(done: &Result<Changes, Vec<String>>) {
    match done {
        Ok(Changes { changed, waiting, not_served }) => {
            if changed.is_empty() {
                info!("reloaded the configuration: nothing that is served has changed");
            }
            for change in changed {
                info!("reloaded the configuration: {change}");
            }
            if !waiting.is_empty() {
                warn!(
                    "{} changed in the configuration and take effect when xpxe is restarted (systemctl restart xpxe)",
                    waiting.join(", ")
                );
            }
            if !not_served.is_empty() {
                warn!(
                    "machines of the registry are not served with this configuration, and wait until it or they are changed: {}",
                    not_served.join("; ")
                );
            }
        }
        Err(problems) => {
            for problem in problems {
                error!("{problem}");
            }
            error!(
                "the configuration was not reloaded, and xpxe keeps the running one: correct the {} problems above \
                 and reload again",
                problems.len()
            );
        }
    }
}
