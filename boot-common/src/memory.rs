//! The tables in the host's memory, for the daemon, tests and benches.
#![cfg(any(test, feature = "user"))]

use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Arc;
use std::vec::Vec;

use crate::tables::{Answer, AnswerKey, Host, HostKey, LinkEntry, Tables};
use crate::tftp::{Chunk, Flight, Sums, TransferKey, Transfers, Word};

/// Interfaces, machines, prepared answers and transfers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By ifindex.
    pub links: HashMap<u32, LinkEntry>,
    /// By MAC.
    pub hosts: HashMap<HostKey, Host>,
    /// By set, request list, class and message.
    pub answers: HashMap<AnswerKey, Answer>,
    /// Transfers as in the kernel's tables; the daemon's own are in memory that both halves share.
    pub transfers: Arc<TransferMemory>,
}

/// Transfers, their images and checksums.
#[derive(Default)]
pub struct TransferMemory {
    /// Slots by client and server address.
    pub slots: HashMap<TransferKey, u32>,
    /// The transfers in the slots.
    pub flights: Vec<Flight>,
    /// Images.
    pub chunks: Vec<Box<Chunk>>,
    /// The sums of the images' blocks.
    pub sums: Vec<Box<Sums>>,
    /// Boot-clock nanoseconds.
    pub now: u64,
    /// The daemon's last heartbeat.
    pub heartbeat: u64,
}

impl core::fmt::Debug for TransferMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TransferMemory").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Tables for Memory {
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

impl Transfers for Memory {
    fn slot(&self, key: &TransferKey) -> Option<u32> {
        self.transfers.slots.get(key).copied()
    }

    fn flight(&self, slot: u32) -> Option<&Flight> {
        self.transfers.flights.get(slot as usize)
    }

    fn chunk(&self, index: u32) -> Option<&Chunk> {
        Some(self.transfers.chunks.get(index as usize)?)
    }

    fn sums(&self, index: u32) -> Option<&Sums> {
        Some(self.transfers.sums.get(index as usize)?)
    }

    fn now(&self) -> u64 {
        self.transfers.now
    }

    fn heartbeat(&self) -> u64 {
        self.transfers.heartbeat
    }

    fn exchange(&self, word: &Word, from: u64, to: u64) -> bool {
        word.exchange(from, to)
    }
}
