//! Interfaces that change while xpxe runs: deleted and made again, with other addresses, down and up.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::event_loop::Rebind;
use super::fast_path::attach;
use super::served_link::served_link;
use crate::fastpath::FastPath;
use crate::host::link::{self, Changes, Link};
use crate::http::Readiness;
use crate::io::{ra, switches, tftp};
use boot_engine::config::{Config, Interface};
use boot_engine::events::Events;
use boot_engine::machines::Machines;
use boot_engine::policy::ServedLink;

/// How long changes gather: making an interface is several.
const GATHER: Duration = Duration::from_millis(50);
/// When an interface that could not be served is looked at again, if nothing happens before.
const AGAIN: Duration = Duration::from_secs(5);

/// Has the interfaces served as they are.
pub(super) struct LinkMonitor {
    /// As it was at the start, but for what a reload changes.
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) http_port: u16,
    /// In the order of the configuration.
    pub(super) monitored: Vec<Monitored>,
    pub(super) machines: Machines,
    pub(super) events: Events,
    /// Who serves DHCP.
    pub(super) dhcp: mpsc::Sender<Rebind>,
    /// Monitored for its programs, which are put on interfaces that are there again.
    pub(super) fast_path: Option<FastPath>,
    /// Gets told which interfaces are not served.
    pub(super) readiness: Readiness,
    /// Works beside the packets.
    pub(super) background: Handle,
}

/// An interface as it is served.
pub(super) struct Monitored {
    /// Its number is 0 while it is not there.
    link: Link,
    /// Why it is not served, as was said.
    trouble: Option<String>,
    /// Where its machines find HTTP, as DHCP was told last; not known before the first look.
    http: Option<SocketAddrV4>,
    tftp: mpsc::UnboundedSender<tftp::Rebind>,
    advertiser: Option<AbortHandle>,
    /// Hears the switch at the other end.
    switch: Option<AbortHandle>,
}

impl Monitored {
    pub(super) fn new(link: Link, tftp: mpsc::UnboundedSender<tftp::Rebind>) -> Self {
        Self { link, trouble: None, http: None, tftp, advertiser: None, switch: None }
    }
}

impl LinkMonitor {
    /// Runs as long as the daemon does.
    pub(super) async fn run(mut self) {
        for position in 0..self.monitored.len() {
            self.advertise(position);
        }
        let mut changes = match Changes::listen() {
            Ok(changes) => changes,
            Err(failure) => {
                return warn!(
                    "cannot follow changes of interfaces: {failure}; restart xpxe after changing one"
                );
            }
        };
        loop {
            for position in 0..self.monitored.len() {
                self.look(position).await;
            }
            let is_troubled = self.monitored.iter().any(|monitored| monitored.trouble.is_some());
            let heard = tokio::select! {
                heard = changes.next() => heard,
                () = sleep(AGAIN), if is_troubled => Ok(()),
                // The daemon ends with its sender.
                Ok(()) = self.config.changed() => Ok(()),
            };
            if let Err(failure) = heard {
                return warn!(
                    "no longer following changes of interfaces: {failure}; restart xpxe after changing one"
                );
            }
            sleep(GATHER).await;
        }
    }

    async fn look(&mut self, position: usize) {
        let Some(monitored) = self.monitored.get(position) else { return };
        let name = monitored.link.name.clone();
        let found = match link::find(&name) {
            Ok(link) if link == monitored.link => self.tell_address(position).await.map(|()| false),
            Ok(link) => self.rebind(position, link).await.map(|()| true),
            Err(error) => self.leave(position).await.and(Err(error.into())),
        };
        let Some(monitored) = self.monitored.get_mut(position) else { return };
        match found {
            Ok(changed) => {
                if changed || monitored.trouble.take().is_some() {
                    monitored.trouble = None;
                    let addresses: Vec<String> =
                        monitored.link.addresses.iter().map(ToString::to_string).collect();
                    info!(
                        interface = name,
                        ifindex = monitored.link.index,
                        "serving {name} as it is now, with {}",
                        addresses.join(", ")
                    );
                }
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if monitored.trouble.as_ref() != Some(&trouble) {
                    error!(interface = name, "{trouble}; until then its machines get no answer");
                    monitored.trouble = Some(trouble);
                }
            }
        }
        let is_served = monitored.trouble.is_none();
        self.readiness.set_trouble(&name, monitored.trouble.clone());
        let no_carrier = is_served && !link::has_carrier(&name).unwrap_or(true);
        let no_carrier =
            no_carrier.then(|| format!("{name} has no carrier: check its cable and the switch's port"));
        self.readiness.tell_trouble(&format!("the cable of {name}"), no_carrier);
    }

    /// Has an interface no longer served. Whatever comes back is another one, even if it has the same number: its sockets
    /// and programs went with it.
    async fn leave(&mut self, position: usize) -> Result<()> {
        let Some(monitored) = self.monitored.get_mut(position).filter(|monitored| monitored.link.index != 0)
        else {
            return Ok(());
        };
        monitored.link.index = 0;
        let (reply, done) = oneshot::channel();
        let rebind = Rebind { name: monitored.link.name.clone(), to: None, reply };
        self.dhcp.send(rebind).await.ok().context("the DHCP server has ended")?;
        done.await.context("the DHCP server has ended")?
    }

    /// Has an interface served that is another one now. What is known stays so only when all of it is done.
    async fn rebind(&mut self, position: usize, link: Link) -> Result<()> {
        let config = Arc::clone(&self.config.borrow());
        let (Some(monitored), Some(interface)) =
            (self.monitored.get(position), config.interfaces.get(position))
        else {
            return Ok(());
        };
        let is_new = link.index != monitored.link.index;
        let (reply, done) = oneshot::channel();
        monitored.tftp.send((link.clone(), reply)).ok().context("the TFTP server has ended")?;
        done.await.context("the TFTP server has ended")??;
        let served = served_link(&config, interface, &link, self.http_port);
        let http = served.http;
        self.tell_dhcp(&link, served).await?;
        if let Some(fast_path) = self.fast_path.as_mut().filter(|_| is_new)
            && let Err(error) = attach(&config.pin_dir, interface, &link, fast_path)
        {
            error!(interface = link.name, "{error:#}; until then the daemon answers everything there");
        }
        if let Some(monitored) = self.monitored.get_mut(position) {
            monitored.link = link;
            monitored.http = Some(http);
        }
        self.advertise(position);
        Ok(())
    }

    /// Has machines sent to the address that a reload has made the one that they find.
    async fn tell_address(&mut self, position: usize) -> Result<()> {
        let config = Arc::clone(&self.config.borrow());
        let (Some(monitored), Some(interface)) =
            (self.monitored.get(position), config.interfaces.get(position))
        else {
            return Ok(());
        };
        let link = monitored.link.clone();
        let served = served_link(&config, interface, &link, self.http_port);
        let http = served.http;
        if monitored.http.is_some_and(|told| told != http) {
            self.tell_dhcp(&link, served).await?;
        }
        if let Some(monitored) = self.monitored.get_mut(position) {
            monitored.http = Some(http);
        }
        Ok(())
    }

    async fn tell_dhcp(&self, link: &Link, served: ServedLink) -> Result<()> {
        let (reply, done) = oneshot::channel();
        let rebind = Rebind { name: link.name.clone(), to: Some((link.clone(), served)), reply };
        self.dhcp.send(rebind).await.ok().context("the DHCP server has ended")?;
        done.await.context("the DHCP server has ended")?
    }

    /// Has router solicitations answered.
    fn advertise(&mut self, position: usize) {
        self.hear_switch(position);
        let wanted = |interface: &&Interface| interface.router_advertisement;
        let config = Arc::clone(&self.config.borrow());
        let (Some(monitored), Some(_)) =
            (self.monitored.get_mut(position), config.interfaces.get(position).filter(wanted))
        else {
            return;
        };
        let (link, machines, events) =
            (monitored.link.clone(), self.machines.clone(), Arc::clone(&self.events));
        let advertiser = tokio::spawn(async move {
            if let Err(error) = ra::serve(link, machines, events).await {
                warn!("router solicitations are not answered: {error}");
            }
        });
        if let Some(before) = monitored.advertiser.replace(advertiser.abort_handle()) {
            before.abort();
        }
    }

    fn hear_switch(&mut self, position: usize) {
        let Some(monitored) = self.monitored.get_mut(position) else { return };
        let (link, events) = (monitored.link.clone(), Arc::clone(&self.events));
        let hears = self.background.spawn(async move {
            let name = link.name.clone();
            if let Err(error) = switches::hear(link, events).await {
                debug!("{name}: the switch at its other end is not heard: {error}");
            }
        });
        if let Some(before) = monitored.switch.replace(hears.abort_handle()) {
            before.abort();
        }
    }
}
