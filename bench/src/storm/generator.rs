//! Many clients at once, on one thread: it reads what came, answers it, begins what is due, repeats what is
//! late, and sleeps when there is nothing to do.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use boot_bench::frame::is_intact;
use boot_bench::socket::{Inbox, Outbox};
use tokio::sync::mpsc::UnboundedSender;

use super::outcome::Outcome;
use super::packet::{self, Kind, ROOM, Reply, Template};

/// How many frames are read before the clients get on.
const ROUND: usize = 256;
/// Every which reply's checksums are computed.
const LOOK_AT: u64 = 64;

/// What every client of a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// DISCOVER, OFFER, REQUEST, ACK.
    Exchange,
    /// DISCOVER, OFFER.
    Discover,
    /// REQUEST to the server alone, ACK.
    Renew,
    /// Two frames there and back, with the reflector.
    Reflect,
}

/// When clients begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// When another one is done: so many at once.
    Window(usize),
    /// So many a second, whatever becomes of them.
    PerSecond(u32),
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'p> {
    pub(crate) work: Work,
    pub(crate) pace: Pace,
    /// The machines that take part.
    pub(crate) machines: Range<u32>,
    /// Each machine once, instead of again and again.
    pub(crate) once: bool,
    /// Nobody begins later than this.
    pub(crate) during: Duration,
    /// When a packet is repeated, each time; after the last time the exchange is lost.
    pub(crate) patience: &'p [Duration],
    /// The run ends after this at the latest.
    pub(crate) at_most: Duration,
}

impl Plan<'_> {
    /// One exchange of a machine that takes no part in any measure.
    pub(crate) fn probe(machine: u32) -> Self {
        const PATIENCE: Duration = Duration::from_millis(50);
        Self {
            work: Work::Exchange,
            pace: Pace::Window(1),
            machines: machine..machine + 1,
            once: true,
            during: PATIENCE,
            patience: &[PATIENCE],
            at_most: PATIENCE,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Discovering,
    Requesting,
    Renewing,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    step: Step,
    repeats: u8,
    refused: bool,
    xid: u32,
    address: Ipv4Addr,
    /// The one that it is written down with as the owner.
    owned: Ipv4Addr,
    began: u64,
    sent: u64,
}

const NOBODY: Client = Client {
    step: Step::Idle,
    repeats: 0,
    refused: false,
    xid: 0,
    address: Ipv4Addr::UNSPECIFIED,
    owned: Ipv4Addr::UNSPECIFIED,
    began: 0,
    sent: 0,
};

/// The clients of one server.
pub(crate) struct Generator {
    inbox: Inbox,
    clients: Clients,
}

/// Is told each machine that has got its address.
pub(crate) type Told = UnboundedSender<u32>;

struct Clients {
    outbox: Outbox<ROOM>,
    discover: Template,
    request: Template,
    renew: Template,
    all: Vec<Client>,
    owners: HashMap<Ipv4Addr, u32>,
    xid: u32,
    seen: u64,
    waiting: usize,
    /// Per repeat: who sent what when, oldest first.
    timers: Vec<VecDeque<(u64, u32)>>,
    outcome: Outcome,
    told: Option<Told>,
}

impl Generator {
    /// Clients on an interface of the current namespace.
    pub(crate) fn open(ifindex: u32) -> io::Result<Self> {
        let clients = Clients {
            outbox: Outbox::open(ifindex)?,
            discover: Template::discover(),
            request: Template::request(),
            renew: Template::renew(),
            all: Vec::new(),
            owners: HashMap::new(),
            xid: 0x5850_0000,
            seen: 0,
            waiting: 0,
            timers: Vec::new(),
            outcome: Outcome::default(),
            told: None,
        };
        Ok(Self { inbox: Inbox::open(ifindex)?, clients })
    }

    /// From now on `told` is told who has got an address; nobody any more by none.
    pub(crate) fn tell(&mut self, told: Option<Told>) {
        self.clients.told = told;
    }

    /// Runs a plan to its end.
    pub(crate) fn run(&mut self, plan: &Plan<'_>) -> Outcome {
        let Self { inbox, clients } = self;
        // What came since the last run is nobody's.
        while inbox.drain(ROUND, |_| {}) > 0 {}
        inbox.dropped();
        clients.begin_run(plan);
        let started = Instant::now();
        let since = |instant: Instant| u64::try_from((instant - started).as_nanos()).unwrap_or(u64::MAX);
        let (during, at_most) = (nanos(plan.during), nanos(plan.at_most));
        let everybody = if plan.once { plan.machines.len() as u64 } else { u64::MAX };
        let mut turns = Turns::new(plan.machines.clone());
        loop {
            let now = since(Instant::now());
            let read = inbox.drain(ROUND, |frame| clients.hear(frame, plan, now));
            let mut open = now < during && clients.outcome.begun < everybody;
            if open {
                let due = match plan.pace {
                    Pace::Window(size) => size.saturating_sub(clients.waiting) as u64,
                    Pace::PerSecond(rate) => {
                        let so_far = u128::from(now) * u128::from(rate) / 1_000_000_000 + 1;
                        (so_far as u64).saturating_sub(clients.outcome.begun)
                    }
                };
                for _ in 0..due.min(everybody - clients.outcome.begun) {
                    clients.begin(turns.next(), plan.work, now);
                }
                open = clients.outcome.begun < everybody;
            }
            clients.outbox.flush();
            clients.repeat(plan, now);
            if (!open && clients.waiting == 0) || now > at_most {
                break;
            }
            if read == 0 {
                inbox.wait(match plan.pace {
                    Pace::PerSecond(rate) if open => Duration::from_secs(1) / rate.max(1),
                    _ => Duration::from_millis(1),
                });
            }
        }
        let ended = since(Instant::now());
        let mut outcome = clients.end_run();
        outcome.dropped = u64::from(inbox.dropped());
        outcome.measured = Duration::from_nanos(if plan.once { ended } else { ended.min(during) });
        if plan.once && outcome.done == everybody {
            outcome.measured = outcome.all_done;
        } else if plan.once {
            // Those that never had their turn are lost too, and the time spent on the others counts.
            outcome.lost = everybody - outcome.done;
        }
        outcome
    }
}

impl Clients {
    fn begin_run(&mut self, plan: &Plan<'_>) {
        self.all.resize(self.all.len().max(plan.machines.end as usize), NOBODY);
        for client in &mut self.all {
            client.step = Step::Idle;
        }
        self.timers = vec![VecDeque::new(); plan.patience.len()];
        self.waiting = 0;
        self.outcome = Outcome::default();
        self.outbox.refused = 0;
    }

    fn end_run(&mut self) -> Outcome {
        self.outcome.lost += self.waiting as u64;
        self.outcome.dropped += self.outbox.refused;
        std::mem::take(&mut self.outcome)
    }

    fn begin(&mut self, machine: u32, work: Work, now: u64) {
        self.xid = self.xid.wrapping_add(1);
        let Some(client) = self.all.get_mut(machine as usize) else { return };
        if client.step != Step::Idle {
            // Still at its last exchange: another one's turn.
            return;
        }
        client.step = if work == Work::Renew { Step::Renewing } else { Step::Discovering };
        (client.xid, client.began, client.repeats, client.refused) = (self.xid, now, 0, false);
        self.waiting += 1;
        self.outcome.begun += 1;
        self.send(machine, now);
    }

    /// Sends what belongs to the machine's step.
    fn send(&mut self, machine: u32, now: u64) {
        let client = &mut self.all[machine as usize];
        client.sent = now;
        let template = match client.step {
            Step::Idle => return,
            Step::Discovering => &self.discover,
            Step::Requesting => &self.request,
            Step::Renewing => &self.renew,
        };
        self.outbox.push(|frame| template.write(frame, machine, client.xid, client.address));
        if let Some(timer) = self.timers.get_mut(usize::from(client.repeats)) {
            timer.push_back((now, machine));
        }
    }

    fn hear(&mut self, frame: &[u8], plan: &Plan<'_>, now: u64) {
        let Some(reply) = Reply::read(frame) else {
            if let Some(address) = packet::asks_who_has(frame)
                && let Some(machine) = self.owners.get(&address).copied()
            {
                self.outbox.push(|frame| packet::has(frame, machine, address));
            }
            return;
        };
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK_AT) && !is_intact(frame) {
            self.outcome.damaged += 1;
        }
        let Some(client) = self.all.get_mut(reply.machine as usize) else { return };
        if client.xid != reply.xid || client.step == Step::Idle {
            self.outcome.late += 1;
            return;
        }
        if (reply.kind == Kind::Echo) != (plan.work == Work::Reflect) {
            // One's own request is an answer only where there is no server.
            self.outcome.echoes += 1;
            return;
        }
        match (client.step, reply.kind) {
            (Step::Discovering, Kind::Offer | Kind::Echo) if plan.work == Work::Discover => {
                client.address = reply.address;
                self.finish(reply.machine, plan, now);
            }
            (Step::Discovering, Kind::Offer | Kind::Echo) => {
                client.address = reply.address;
                client.step = Step::Requesting;
                self.send(reply.machine, now);
            }
            (Step::Requesting, Kind::Echo) => self.finish(reply.machine, plan, now),
            (Step::Requesting | Step::Renewing, Kind::Ack) => {
                let wants_to_boot = client.step == Step::Requesting;
                if reply.address != client.address || (wants_to_boot && !reply.boots) {
                    self.outcome.wrong += 1;
                }
                self.owns(&reply);
                self.finish(reply.machine, plan, now);
            }
            (Step::Requesting | Step::Renewing, Kind::Nak) => {
                // From the beginning, as iPXE does; EDK2 would give up.
                self.outcome.naks += 1;
                client.refused = true;
                client.step = Step::Discovering;
                self.send(reply.machine, now);
            }
            // An offer or ACK for the second time, because the packet was repeated.
            _ => self.outcome.late += 1,
        }
    }

    fn owns(&mut self, reply: &Reply) {
        let Some(client) = self.all.get_mut(reply.machine as usize) else { return };
        // To look for it each time would cost as much as the server does.
        if client.owned == reply.address {
            return;
        }
        client.owned = reply.address;
        let owner = self.owners.insert(reply.address, reply.machine);
        if owner.is_some_and(|owner| owner != reply.machine) {
            self.outcome.duplicates += 1;
        }
    }

    fn finish(&mut self, machine: u32, plan: &Plan<'_>, now: u64) {
        let client = &mut self.all[machine as usize];
        client.step = Step::Idle;
        self.waiting -= 1;
        self.outcome.done += 1;
        self.outcome.in_time += u64::from(plan.once || now <= nanos(plan.during));
        self.outcome.at_first_try += u64::from(client.repeats == 0 && !client.refused);
        self.outcome.all_done = Duration::from_nanos(now);
        self.outcome.latencies.push(now - client.began);
        if let Some(told) = &self.told {
            // Who listens no more wants to know no more.
            let _nobody = told.send(machine);
        }
    }

    fn repeat(&mut self, plan: &Plan<'_>, now: u64) {
        for (level, patience) in plan.patience.iter().enumerate() {
            let before = now.saturating_sub(nanos(*patience));
            while let Some((sent, machine)) = self.timers[level].front().copied()
                && sent < before
            {
                self.timers[level].pop_front();
                let client = &mut self.all[machine as usize];
                if client.step == Step::Idle || client.sent != sent || usize::from(client.repeats) != level {
                    continue;
                }
                if level + 1 == plan.patience.len() {
                    client.step = Step::Idle;
                    self.waiting -= 1;
                    self.outcome.lost += 1;
                } else {
                    client.repeats += 1;
                    self.send(machine, now);
                }
            }
        }
    }
}

/// Every machine in turn, far apart from each other.
struct Turns {
    first: u32,
    machines: u64,
    stride: u64,
    at: u64,
}

impl Turns {
    fn new(range: Range<u32>) -> Self {
        let machines = range.len().max(1) as u64;
        // A prime that is no factor of it.
        let stride =
            [2_654_435_761, 2_147_483_647].into_iter().find(|prime| !machines.is_multiple_of(*prime));
        Self { first: range.start, machines, stride: stride.unwrap_or(1) % machines.max(2), at: 0 }
    }

    fn next(&mut self) -> u32 {
        self.at = (self.at + self.stride) % self.machines;
        self.first + self.at as u32
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn every_machine_has_its_turn_once() {
        for machines in [1, 2, 3, 64, 1000, 5000] {
            let mut turns = Turns::new(7..7 + machines);
            let mut seen: Vec<u32> = (0..machines).map(|_| turns.next()).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(7..7 + machines), "{machines}");
        }
    }
}
