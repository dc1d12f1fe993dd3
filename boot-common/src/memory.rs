//! The tables in the host's memory: the daemon's, and those of tests and benches.
#![cfg(any(test, feature = "user"))]

use std::collections::HashMap;

use crate::tables::{Answer, AnswerKey, Host, HostKey, Link, Tables};

/// Interfaces, machines and prepared answers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By ifindex.
    pub links: HashMap<u32, Link>,
    /// By MAC.
    pub hosts: HashMap<HostKey, Host>,
    /// By set, request list, class and message.
    pub answers: HashMap<AnswerKey, Answer>,
}

impl Tables for Memory {
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
