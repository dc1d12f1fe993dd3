//! Tables as the kernel half has them, for targets that need one that outlives its daemon.

use std::collections::HashMap;

use boot_common::tables::{Answer, AnswerKey, Host, HostKey, LinkEntry, Tables};

/// The kernel half: its tables, and nothing else.
#[derive(Default)]
pub struct Kernel {
    /// Interfaces by number.
    pub links: HashMap<u32, LinkEntry>,
    /// Machines.
    pub hosts: HashMap<HostKey, Host>,
    /// Prepared answers.
    pub answers: HashMap<AnswerKey, Answer>,
}

impl boot_common::tftp::Transfers for Kernel {}

impl Tables for Kernel {
    fn link(&self, ifindex: u32) -> Option<&LinkEntry> {
        self.links.get(&ifindex)
    }

    fn host(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(key)
    }

    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        self.answers.get(key)
    }
}
