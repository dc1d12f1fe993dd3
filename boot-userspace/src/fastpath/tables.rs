//! The tables in the kernel, with their types.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use boot_common::Reason;
use boot_common::tables::{
    ABI_VERSION, Answer, AnswerKey, Hook, Host, HostKey, LinkEntry, Settings, counter, name,
};

use super::sys;
use crate::fastpath::Events;

/// Typed handles of the kernel's tables.
pub struct Tables {
    links: HashMap<MapData, u32, LinkEntry>,
    hosts: HashMap<MapData, HostKey, Host>,
    /// The same table; none where the kernel does not take several entries at once.
    hosts_at_once: Option<OwnedFd>,
    answers: HashMap<MapData, AnswerKey, Answer>,
    counters: PerCpuArray<MapData, u64>,
    settings: Array<MapData, Settings>,
    events: Option<RingBuf<MapData>>,
}

impl Tables {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self> {
        let mut take =
            |name: &str| ebpf.take_map(name).with_context(|| format!("no table {name} in the object"));
        let hosts = take(name::HOSTS)?;
        let hosts_at_once = match &hosts {
            Map::HashMap(table) => Some(table.fd().as_fd().try_clone_to_owned()?),
            _ => None,
        };
        Ok(Self {
            hosts_at_once,
            links: take(name::LINKS)?.try_into()?,
            hosts: hosts.try_into()?,
            answers: take(name::ANSWERS)?.try_into()?,
            counters: take(name::COUNTERS)?.try_into()?,
            settings: take(name::SETTINGS)?.try_into()?,
            events: Some(take(name::EVENTS)?.try_into()?),
        })
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn delete_link(&mut self, ifindex: u32) -> Result<(), MapError> {
        match self.links.remove(&ifindex) {
            Err(MapError::KeyNotFound) => Ok(()),
            done => done,
        }
    }

    /// Writes an interface.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn put_link(&mut self, ifindex: u32, link: &LinkEntry) -> Result<(), MapError> {
        self.links.insert(ifindex, link, 0)
    }

    /// Writes a machine.
    ///
    /// # Errors
    /// As the kernel gives them; a full table leaves the machine to the daemon.
    pub fn put_host(&mut self, key: &HostKey, host: &Host) -> Result<(), MapError> {
        self.hosts.insert(key, host, 0)
    }

    /// Writes machines, in their order. What one of them cannot be written for, `refused` gets.
    pub fn put_hosts(&mut self, keys: &[HostKey], hosts: &[Host], mut refused: impl FnMut(MapError)) {
        if keys.len() > 1
            && let Some(table) = &self.hosts_at_once
        {
            match sys::update_batch(table.as_fd(), keys, hosts) {
                Ok(()) => return,
                Err(failure) if is_unknown(&failure) => self.hosts_at_once = None,
                // There is no room, for example: one by one, those that have some.
                Err(_) => {}
            }
        }
        for (key, host) in keys.iter().zip(hosts) {
            self.put_host(key, host).unwrap_or_else(&mut refused);
        }
    }

    /// Removes a machine; none there is fine.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn delete_host(&mut self, key: &HostKey) -> Result<(), MapError> {
        match self.hosts.remove(key) {
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        }
    }

    /// Writes a prepared answer.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn put_answer(&mut self, key: &AnswerKey, answer: &Answer) -> Result<(), MapError> {
        self.answers.insert(key, answer, 0)
    }

    /// Removes a prepared answer; none there is fine.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn delete_answer(&mut self, key: &AnswerKey) -> Result<(), MapError> {
        match self.answers.remove(key) {
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        }
    }

    /// Every machine the kernel knows.
    #[must_use]
    pub fn hosts(&self) -> Vec<(HostKey, Host)> {
        self.hosts.iter().filter_map(Result::ok).collect()
    }

    /// Makes the tables hold nothing but this: what is adopted may have machines, interfaces and answers that the
    /// configuration no longer has, or has differently. Gives the number of stale entries removed.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn reconcile(
        &mut self,
        links: impl Fn(u32) -> bool,
        hosts: impl Fn(&HostKey) -> bool,
        answers: impl Fn(&AnswerKey, &Answer) -> bool,
    ) -> Result<usize, MapError> {
        let stale_links: Vec<u32> =
            self.links.keys().filter_map(Result::ok).filter(|key| !links(*key)).collect();
        let stale_hosts: Vec<HostKey> =
            self.hosts.keys().filter_map(Result::ok).filter(|key| !hosts(key)).collect();
        let stale_answers: Vec<AnswerKey> = self
            .answers
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, answer)| !answers(key, answer))
            .map(|(key, _)| key)
            .collect();
        for key in &stale_links {
            self.links.remove(key)?;
        }
        for key in &stale_hosts {
            self.hosts.remove(key)?;
        }
        for key in &stale_answers {
            self.answers.remove(key)?;
        }
        Ok(stale_links.len() + stale_hosts.len() + stale_answers.len())
    }

    /// Shows that a daemon of this version is alive. `now` is boot-clock nanoseconds.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn beat(&mut self, now: u64) -> Result<(), MapError> {
        let settings = Settings { abi_version: ABI_VERSION, daemon_pid: std::process::id(), heartbeat: now };
        self.settings.set(0, settings, 0)
    }

    /// Packets that ended so at a hook, over all CPUs.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn counter(&self, hook: Hook, reason: Reason) -> Result<u64, MapError> {
        Ok(self.counters.get(&counter(hook, reason), 0)?.iter().sum())
    }

    /// The ring of events, which has one reader.
    #[must_use]
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take().map(Events::new)
    }
}

/// Whether the kernel does not write several entries of such a table at once.
fn is_unknown(failure: &io::Error) -> bool {
    /// The kernel's own ENOTSUPP, which it should not show.
    const ENOTSUPP: i32 = 524;
    matches!(failure.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}
