//! What the engine wants is done together: machines' entries by one call, then the answers that follow by one call for each
//! interface, then what there is to say of them.

use std::collections::HashSet;
use std::io;
use std::mem::take;

use boot_common::tables::{Host, HostKey};
use boot_common::{Mac, Reason};
use tracing::warn;

use super::event_loop::Daemon;
use super::tell::not_taken;
use crate::host::clock::now;
use crate::io::sockets::AT_ONCE;
use boot_engine::command::{Command, Told, Via};

/// What waits to be done together, never more than [`AT_ONCE`] of each.
#[derive(Default)]
struct Together {
    hosts: Hosts,
    answers: Vec<Outgoing>,
}

/// Machines and their entries, side by side.
type Hosts = (Vec<HostKey>, Vec<Host>);

/// An answer on its way out.
struct Outgoing {
    ifindex: u32,
    frame: Vec<u8>,
    via: Via,
    told: Told,
}

impl Daemon {
    /// Does what is stored, or what cannot be: then these machines are told nothing, and the kernel what the engine has.
    pub(super) fn carry_out(&mut self, commands: Vec<Command>, unstored: &HashSet<Mac>, stored: bool) {
        let mut together = Together::default();
        for command in commands {
            match command {
                Command::PutHost(key, host) if stored && self.watched != Some(key.mac) => {
                    together.hosts.0.push(key);
                    together.hosts.1.push(host);
                    if together.hosts.0.len() == AT_ONCE {
                        self.put_hosts(&mut together.hosts);
                    }
                }
                Command::Persist(_) => {}
                Command::Send { told, .. } if unstored.contains(&told.mac) => {
                    self.engine.not_sent(&told, Reason::NotStored);
                }
                Command::Send { ifindex, frame, via, told } => {
                    together.answers.push(Outgoing { ifindex, frame, via, told });
                    if together.answers.len() == AT_ONCE {
                        self.put_hosts(&mut together.hosts);
                        self.send(&mut together.answers);
                    }
                }
                other => {
                    // The tables change in the order in which the engine has changed them.
                    self.put_hosts(&mut together.hosts);
                    self.carry_out_one(other, stored);
                }
            }
        }
        self.put_hosts(&mut together.hosts);
        self.send(&mut together.answers);
    }

    fn carry_out_one(&mut self, command: Command, stored: bool) {
        match command {
            // Not here.
            Command::Persist(_) | Command::Send { .. } => {}
            Command::PutHost(key, _) => self.tell_host(&key),
            Command::DeleteHost(key) if !stored || self.watched == Some(key.mac) => self.tell_host(&key),
            Command::DeleteHost(key) => self.tell("machine", |tables| tables.delete_host(&key)),
            Command::PutAnswer(key, answer) => self.tell_answer(&key, &answer),
            Command::DeleteAnswer(key) => self.untell_answer(&key),
            Command::Probe { ifindex, address, mac, on_link, own_answer_counts } => {
                self.probe(ifindex, address, mac, on_link, own_answer_counts);
            }
        }
    }

    fn put_hosts(&mut self, (keys, hosts): &mut Hosts) {
        if let Some(tables) = &mut self.tables {
            tables.put_hosts(keys, hosts, |failure| not_taken("machine", &failure));
        }
        keys.clear();
        hosts.clear();
    }

    /// Sends answers in their order, and tells the engine which have left.
    fn send(&mut self, answers: &mut Vec<Outgoing>) {
        let answers = take(answers);
        let is_frame = |answer: &Outgoing| answer.via == Via::Frame;
        let now = now();
        for some in answers.chunk_by(|a, b| a.ifindex == b.ifindex && is_frame(a) && is_frame(b)) {
            for (Outgoing { ifindex, told, .. }, sent) in some.iter().zip(self.send_some(some)) {
                match sent {
                    Ok(()) => self.engine.sent(told, *ifindex, now),
                    Err(failure) => {
                        warn!(mac = %told.mac, "an answer to {} could not be sent: {failure}", told.mac);
                        self.engine.not_sent(told, Reason::NotSent);
                    }
                }
            }
        }
    }

    /// Sends one answer, or several that leave the same interface as frames. Says of each whether it has left.
    fn send_some(&self, answers: &[Outgoing]) -> Vec<io::Result<()>> {
        let gone = || io::Error::other("its interface is served no longer");
        let sockets = answers.first().and_then(|first| self.sockets.get(&first.ifindex));
        match (sockets, answers) {
            (None, answers) => answers.iter().map(|_| Err(gone())).collect(),
            (Some(sockets), [answer]) => vec![sockets.send(&answer.frame, answer.via)],
            (Some(sockets), answers) => {
                let frames: Vec<&[u8]> = answers.iter().map(|answer| answer.frame.as_slice()).collect();
                sockets.send_frames(&frames)
            }
        }
    }
}
