//! Interfaces that change while xpxe runs: deleted and made again, with other addresses, down and up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::event_loop::Rebind;
use super::fast_path::attach;
use super::served_link::served_link;
use crate::fastpath::FastPath;
use crate::host::link::{self, Changes, Link};
use crate::http::Readiness;
use crate::io::{ra, tftp};
use boot_engine::config::{Config, Interface};
use boot_engine::events::Events;
use boot_engine::machines::Machines;

/// How long changes gather: making an interface is several.
const GATHER: Duration = Duration::from_millis(50);
/// When an interface that could not be served is looked at again, if nothing happens before.
const AGAIN: Duration = Duration::from_secs(5);

/// Has the interfaces served as they are.
pub(super) struct LinkMonitor {
    pub(super) config: Arc<Config>,
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
}

/// An interface as it is served.
pub(super) struct Monitored {
    /// Its number is 0 while it is not there.
    link: Link,
    /// Why it is not served, as was said.
    trouble: Option<String>,
    tftp: mpsc::UnboundedSender<tftp::Rebind>,
    advertiser: Option<AbortHandle>,
}

impl Monitored {
    pub(super) fn new(link: Link, tftp: mpsc::UnboundedSender<tftp::Rebind>) -> Self {
        Self { link, trouble: None, tftp, advertiser: None }
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
                return warn!("interfaces that change are not noticed: {failure}");
            }
        };
        loop {
            for position in 0..self.monitored.len() {
                self.look(position).await;
            }
            let heard = if self.monitored.iter().any(|monitored| monitored.trouble.is_some()) {
                timeout(AGAIN, changes.next()).await.unwrap_or(Ok(()))
            } else {
                changes.next().await
            };
            if let Err(failure) = heard {
                return warn!("interfaces that change are not noticed any more: {failure}");
            }
            sleep(GATHER).await;
        }
    }

    async fn look(&mut self, position: usize) {
        let Some(monitored) = self.monitored.get(position) else { return };
        let name = monitored.link.name.clone();
        let found = match link::find(&name) {
            Ok(link) if link == monitored.link => Ok(false),
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
                        "{name} is served as it is now, with {}",
                        addresses.join(", ")
                    );
                }
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if monitored.trouble.as_ref() != Some(&trouble) {
                    error!(interface = name, "{trouble}; its machines get no answer until then");
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
        let (Some(monitored), Some(interface)) =
            (self.monitored.get(position), self.config.interfaces.get(position))
        else {
            return Ok(());
        };
        let is_new = link.index != monitored.link.index;
        let (reply, done) = oneshot::channel();
        monitored.tftp.send((link.clone(), reply)).ok().context("the TFTP server has ended")?;
        done.await.context("the TFTP server has ended")??;
        let (reply, done) = oneshot::channel();
        let served = served_link(&self.config, interface, &link, self.http_port);
        let rebind = Rebind { name: link.name.clone(), to: Some((link.clone(), served)), reply };
        self.dhcp.send(rebind).await.ok().context("the DHCP server has ended")?;
        done.await.context("the DHCP server has ended")??;
        if let Some(fast_path) = self.fast_path.as_mut().filter(|_| is_new)
            && let Err(error) = attach(&self.config.pin_dir, interface, &link, fast_path)
        {
            error!(interface = link.name, "{error:#}; until then the daemon answers everything there");
        }
        if let Some(monitored) = self.monitored.get_mut(position) {
            monitored.link = link;
        }
        self.advertise(position);
        Ok(())
    }

    /// Has router solicitations answered.
    fn advertise(&mut self, position: usize) {
        let wanted = |interface: &&Interface| interface.router_advertisement;
        let (Some(monitored), Some(_)) =
            (self.monitored.get_mut(position), self.config.interfaces.get(position).filter(wanted))
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
}
