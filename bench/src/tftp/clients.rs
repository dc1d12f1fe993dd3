//! Many clients at once, on one thread: it reads what came, acknowledges it, repeats what is late, and sleeps when
//! there is nothing to do. Each fetches the file again and again, every time from another port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_ebpf::BLOCK;
use boot_bench::cable::Cable;
use boot_bench::frame::is_intact;
use boot_bench::socket::{Inbox, Outbox};

use super::kernel::InKernel;
use super::outcome::Outcome;
use super::packet::{self, Line, ROOM, Said};

/// How many frames are read before the clients get on.
const ROUND: usize = 256;
/// How many rounds there are between two looks at who has got a block.
const ROUNDS: usize = 16;
/// Every which block's checksums are computed.
const LOOK_AT: u64 = 64;
/// When a packet is repeated.
const PATIENCE: u64 = 1_000_000_000;
/// After so many repeats in a row the client begins anew.
const REPEATS: u32 = 5;
/// How often the clients are looked through for those that wait too long.
const LOOK_THROUGH: u64 = 50_000_000;
/// A block that took so long was sent again by the server, or the server is very slow.
const LATE: u64 = 45_000_000;
/// One client alone looks for its answer for so long before it sleeps, so that its own wake-up is not measured.
const SPIN: u64 = 100_000;
const PORTS: std::ops::Range<u16> = 2000..60_000;

/// Who acknowledges.
pub(crate) enum Way {
    /// This thread.
    Sockets,
    /// This thread, and there is no server: it sends itself DATA packets, which come back.
    Reflected,
    /// The clients' interface.
    Kernel(Box<InKernel>),
    /// Somebody else, who opens one transfer this way.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Asking,
    /// Waits for this block, counted from 1 without end.
    Receiving(u64),
    /// The server sent an ERROR.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    line: Line,
    step: Step,
    sent: u64,
    repeats: u32,
    blocks: u64,
}

/// The clients of one server.
pub(crate) struct Clients {
    inbox: Inbox,
    desk: Desk,
}

/// All but where frames come in.
struct Desk {
    outbox: Outbox<ROOM>,
    way: Way,
    file: Arc<[u8]>,
    all: Vec<Client>,
    began: Instant,
    /// When the run began that is measured.
    since: u64,
    outcome: Outcome,
    wrong: Option<String>,
    /// How often clients were started.
    turns: u32,
    /// When they are next looked through.
    look: u64,
}

impl Clients {
    /// Clients at the end of a cable, which nobody has started.
    pub(crate) fn open(cable: &Cable, file: &Arc<[u8]>, way: Way) -> Result<Self> {
        let open = || Ok::<_, std::io::Error>((Inbox::open(cable.ifindex)?, Outbox::open(cable.ifindex)?));
        let (inbox, outbox) = cable.clients.run(open)?.context("open packet sockets")?;
        let desk = Desk {
            outbox,
            way,
            file: Arc::clone(file),
            all: Vec::new(),
            began: Instant::now(),
            since: 0,
            outcome: Outcome::default(),
            wrong: None,
            turns: 0,
            look: 0,
        };
        Ok(Self { inbox, desk })
    }

    /// One request; true when its first answer comes in time, after which it is given up.
    pub(crate) fn probe(&mut self, within: Duration) -> Result<bool> {
        let answered = self.is_answered(within)?;
        self.stop()?;
        Ok(answered)
    }

    /// Opens a transfer, whose ACK 0 somebody else sends.
    pub(crate) fn open_one(&mut self, within: Duration) -> Result<Line> {
        let way = std::mem::replace(&mut self.desk.way, Way::Nobody);
        let answered = self.is_answered(within)?;
        self.desk.way = way;
        let client = self.desk.all.first().filter(|_| answered);
        Ok(client.context("the server does not answer")?.line)
    }

    fn is_answered(&mut self, within: Duration) -> Result<bool> {
        self.start(1);
        let end = self.desk.now() + nanos(within);
        let asks = |desk: &Desk| desk.all.iter().all(|client| client.step == Step::Asking);
        while self.desk.now() < end && asks(&self.desk) {
            self.go(true)?;
        }
        Ok(!asks(&self.desk))
    }

    /// Starts this many, and waits until each has got a block, or for `within`: those that have not by then are
    /// counted by [`Clients::run`].
    pub(crate) fn begin(&mut self, clients: u32, within: Duration) -> Result<()> {
        self.start(clients);
        let end = self.desk.now() + nanos(within);
        while self.desk.now() < end && self.desk.all.iter().any(|client| client.blocks == 0) {
            for _ in 0..ROUNDS {
                self.go(false)?;
            }
        }
        Ok(())
    }

    /// Lets those that were started get on, and says how.
    pub(crate) fn run(&mut self, during: Duration) -> Result<Outcome> {
        let Self { inbox, desk } = self;
        desk.outcome = Outcome::default();
        for client in &mut desk.all {
            client.blocks = 0;
        }
        inbox.dropped();
        let before = desk.counted()?;
        desk.since = desk.now();
        let end = desk.since + nanos(during);
        while self.desk.now() < end {
            self.go(false)?;
        }
        let Self { inbox, desk } = self;
        let mut outcome = std::mem::take(&mut desk.outcome);
        outcome.measured = Duration::from_nanos(desk.now() - desk.since);
        outcome.stray += u64::from(inbox.dropped()) + std::mem::take(&mut desk.outbox.refused);
        outcome.starved = desk.all.iter().filter(|client| client.blocks == 0).count() as u64;
        if let (Some(before), Some(after)) = (before, desk.counted()?) {
            after.add_since(&before, &mut outcome)?;
        }
        if let Some(wrong) = desk.wrong.take() {
            bail!("the server sent something else than the file: {wrong}");
        }
        Ok(outcome)
    }

    /// Ends every transfer.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Self { inbox, desk } = self;
        if let Way::Kernel(clients) = &mut desk.way {
            clients.stop()?;
        }
        for client in std::mem::take(&mut desk.all) {
            desk.outbox.push(|frame| client.line.give_up(frame));
        }
        desk.outbox.flush();
        while inbox.drain(ROUND, |_| {}) > 0 {}
        Ok(())
    }

    fn start(&mut self, clients: u32) {
        let now = self.desk.now();
        self.desk.turns += 1;
        let nobody = Client { line: Line::default(), step: Step::Refused, sent: 0, repeats: 0, blocks: 0 };
        self.desk.all = vec![nobody; clients as usize];
        for client in 0..clients {
            self.desk.ask(client, now);
        }
        self.desk.outbox.flush();
    }

    /// One round.
    fn go(&mut self, patient: bool) -> Result<()> {
        let Self { inbox, desk } = self;
        let mut result = Ok(());
        let read = inbox.drain(ROUND, |frame| {
            let now = desk.now();
            if result.is_ok() {
                result = desk.hear(frame, now);
            }
        });
        result?;
        desk.outbox.flush();
        let now = desk.now();
        if read == 0 {
            let alone = desk.all.len() == 1 && matches!(desk.way, Way::Sockets | Way::Reflected);
            let latest = desk.all.first().map_or(0, |client| client.sent);
            if !alone || patient || now - latest > SPIN {
                inbox.wait(Duration::from_millis(1));
            } else {
                std::hint::spin_loop();
            }
        }
        if now >= desk.look {
            desk.look = now + LOOK_THROUGH;
            desk.repeat(now);
        }
        Ok(())
    }
}

impl Desk {
    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// What the clients in the kernel counted up to now.
    fn counted(&mut self) -> Result<Option<super::kernel::Counted>> {
        match &mut self.way {
            Way::Kernel(clients) => Ok(Some(clients.counted(self.all.len() as u32)?)),
            _ => Ok(None),
        }
    }

    /// Begins a transfer, from a port that this client did not use lately.
    fn ask(&mut self, number: u32, now: u64) {
        let Some(client) = self.all.get_mut(number as usize) else { return };
        let port = match client.line.port {
            0 => PORTS.start + (self.turns * 7919 % PORTS.len() as u32) as u16,
            port if port + 1 < PORTS.end => port + 1,
            _ => PORTS.start,
        };
        client.line = Line::new(number, port);
        (client.step, client.sent, client.repeats) = (Step::Asking, now, 0);
        if matches!(self.way, Way::Reflected) {
            client.step = Step::Receiving(1);
            return self.acknowledge(number, 0);
        }
        let line = client.line;
        self.outbox.push(|frame| line.request(frame));
    }

    fn hear(&mut self, frame: &[u8], now: u64) -> Result<()> {
        let Some((line, said)) = packet::read(frame) else { return Ok(()) };
        let Some(client) = self.all.get_mut(line.client as usize) else { return Ok(()) };
        if line.port != client.line.port {
            // Of a transfer that is over.
            self.outcome.stray += 1;
            return Ok(());
        }
        match (client.step, said) {
            (Step::Asking, Said::Options(options)) => {
                ensure!(packet::is_granted(options), "the server does not grant blksize {BLOCK}");
                client.line.server_port = line.server_port;
                (client.step, client.sent, client.repeats) = (Step::Receiving(1), now, 0);
                self.acknowledge_in_any_way(line.client, 0)?;
            }
            (Step::Receiving(expected), Said::Block(block, bytes)) => {
                // In the kernel, blocks are seen only now and then, and there are fewer of them than numbers.
                let in_kernel = matches!(self.way, Way::Kernel(_));
                let expected = if in_kernel { u64::from(block) } else { expected };
                if block == expected as u16 {
                    return self.take(frame, line.client, expected, bytes, now);
                }
                if block == expected.wrapping_sub(1) as u16 {
                    // The server does not know that we have it.
                    self.outcome.repeated += 1;
                    self.acknowledge(line.client, block);
                } else {
                    self.outcome.stray += 1;
                }
            }
            (_, Said::Error) => {
                // Asked again when the patience ends, or it would be an endless quarrel.
                self.outcome.failed += 1;
                client.step = Step::Refused;
            }
            _ => self.outcome.stray += 1,
        }
        Ok(())
    }

    /// The block that was waited for.
    fn take(&mut self, frame: &[u8], number: u32, block: u64, bytes: &[u8], now: u64) -> Result<()> {
        let Some(client) = self.all.get_mut(number as usize) else { return Ok(()) };
        let begin = (block - 1) as usize * BLOCK as usize;
        let end = (begin + BLOCK as usize).min(self.file.len());
        if self.file.get(begin..end) != Some(bytes) {
            self.wrong
                .get_or_insert_with(|| format!("block {block} of client {number}, {} bytes", bytes.len()));
        }
        self.outcome.compared += 1;
        if self.outcome.compared.is_multiple_of(LOOK_AT) && !is_intact(frame) {
            self.wrong.get_or_insert_with(|| format!("a checksum in block {block} of client {number}"));
        }
        if !matches!(self.way, Way::Kernel(_)) {
            if client.sent >= self.since && client.repeats == 0 {
                self.outcome.latencies.add(now - client.sent);
                self.outcome.late += u64::from(now - client.sent > LATE);
            }
            self.outcome.blocks += 1;
            self.outcome.bytes += bytes.len() as u64;
        }
        client.blocks += 1;
        (client.step, client.sent, client.repeats) = (Step::Receiving(block + 1), now, 0);
        if bytes.len() < BLOCK as usize {
            self.outcome.files += 1;
            if !matches!(self.way, Way::Reflected) {
                self.acknowledge(number, block as u16);
            }
            self.ask(number, now);
            return Ok(());
        }
        self.acknowledge_in_any_way(number, block as u16)
    }

    fn acknowledge_in_any_way(&mut self, number: u32, block: u16) -> Result<()> {
        let Some(client) = self.all.get(number as usize) else { return Ok(()) };
        match &mut self.way {
            Way::Kernel(clients) => return clients.acknowledge(client.line, block),
            Way::Nobody => {}
            Way::Sockets | Way::Reflected => self.acknowledge(number, block),
        }
        Ok(())
    }

    fn acknowledge(&mut self, number: u32, block: u16) {
        let Some(client) = self.all.get(number as usize) else { return };
        let line = client.line;
        if matches!(self.way, Way::Reflected) {
            let begin = usize::from(block) * BLOCK as usize;
            let bytes = self.file.get(begin..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(BLOCK as usize)];
            self.outbox.push(|frame| line.data(frame, block + 1, bytes));
        } else {
            self.outbox.push(|frame| line.ack(frame, block));
        }
    }

    /// Sends again what has no answer, and begins anew what failed.
    fn repeat(&mut self, now: u64) {
        for number in 0..self.all.len() {
            let Some(client) = self.all.get_mut(number).filter(|client| now - client.sent > PATIENCE) else {
                continue;
            };
            let (line, step, number) = (client.line, client.step, number as u32);
            if matches!((step, &self.way), (Step::Receiving(_), Way::Kernel(_) | Way::Nobody)) {
                // The server's own patience has to do.
                continue;
            }
            client.repeats += 1;
            client.sent = now;
            if step == Step::Refused || client.repeats > REPEATS {
                self.outcome.failed += u64::from(step != Step::Refused);
                self.ask(number, now);
                continue;
            }
            self.outcome.lost += 1;
            match step {
                Step::Receiving(expected) => self.acknowledge(number, (expected - 1) as u16),
                _ => self.outbox.push(|frame| line.request(frame)),
            }
        }
        self.outbox.flush();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
