//! The daemon's copy of the tables: the truth that the kernel's are filled from.

use std::collections::HashMap;

use boot_common::tables::{self, Answer, AnswerKey, Host, HostKey, Link};

/// Interfaces, machines and prepared answers.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By ifindex.
    pub(super) links: HashMap<u32, Link>,
    /// By MAC.
    pub(super) hosts: HashMap<HostKey, Host>,
    /// By set, class and message.
    pub(super) answers: HashMap<AnswerKey, Answer>,
}

impl tables::Tables for Tables {
    fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    fn host(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(key)
    }

    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        self.answers.get(key)
    }
}
