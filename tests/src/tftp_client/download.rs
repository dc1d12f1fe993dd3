//! A download from its request to its last block.

use super::*;

/// A transfer from its request to its end.
#[derive(Debug)]
pub struct Download {
    caller: Caller,
    block_size: usize,
    window: u64,
    /// The received bytes, in order.
    bytes: Vec<u8>,
    /// Blocks in `bytes`.
    blocks: u64,
    acknowledged: u64,
    finished: bool,
    /// The last packet sent, for its repetition.
    last_sent: Vec<u8>,
    repeats: u32,
}

impl Download {
    /// Asks for a file with `blksize`, and with `windowsize` if it is not 1; the server must grant both.
    pub fn start(mut caller: Caller, name: &str, block_size: u16, window: u16) -> Result<Self> {
        let (size, window_size) = (block_size.to_string(), window.to_string());
        let mut options = vec![("blksize", size.as_str())];
        if window > 1 {
            options.push(("windowsize", &window_size));
        }
        let last_sent = request(name, &options);
        caller.send(&last_sent)?;
        let mut download = Self {
            caller,
            block_size: usize::from(block_size),
            window: u64::from(window),
            bytes: Vec::new(),
            blocks: 0,
            acknowledged: 0,
            finished: false,
            last_sent,
            repeats: 0,
        };
        loop {
            match download.next()? {
                Packet::Oack(granted) => {
                    let granted = granted.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    ensure!(granted.eq(options.iter().copied()), "asked {options:?}, granted otherwise");
                    download.acknowledge()?;
                    return Ok(download);
                }
                // A repeat of an earlier transfer from this port, by the server's timer.
                Packet::Data { .. } => {}
                other => bail!("{name} is answered with {other:?}"),
            }
        }
    }

    /// Continues until this many bytes have come, or to the file's end. At most `block_size * window` bytes more come.
    pub fn go_on_to(&mut self, bytes: usize) -> Result<()> {
        while !self.finished && self.bytes.len() < bytes {
            let packet = self.next()?;
            self.take(packet)?;
        }
        Ok(())
    }

    /// Handles a packet that the [`Caller`] received.
    pub fn take(&mut self, packet: Packet) -> Result<()> {
        match packet {
            Packet::Data { block, bytes } => self.block(block, &bytes),
            // A second OACK says that the ACK of the first did not arrive.
            Packet::Oack(_) if self.blocks == 0 => self.acknowledge(),
            Packet::Oack(_) => Ok(()),
            Packet::Error { code, text } => bail!("after {} blocks: ERROR {code} {text}", self.blocks),
        }
    }

    /// Continues to the end and stays a little (RFC 1350 section 6), in case the last ACK is lost.
    pub fn finish(mut self) -> Result<Finished> {
        self.go_on_to(usize::MAX)?;
        while self.caller.hear(Duration::from_millis(150))?.is_some() {
            self.acknowledge()?;
        }
        Ok(Finished {
            packets: self.caller.packets(),
            repeats: self.repeats,
            blocks: self.blocks,
            bytes: self.bytes,
        })
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Blocks so far.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The client, to do something unusual with it.
    pub fn caller(&mut self) -> &mut Caller {
        &mut self.caller
    }

    /// Repeats the last ACK at once, as a client does when its own timer runs out.
    pub fn repeat_last(&mut self) -> Result<()> {
        self.caller.send(&self.last_sent)
    }

    fn block(&mut self, number: u16, bytes: &[u8]) -> Result<()> {
        if number != (self.blocks + 1) as u16 {
            return self.acknowledge();
        }
        ensure!(bytes.len() <= self.block_size, "block {number} has {} bytes", bytes.len());
        self.blocks += 1;
        self.bytes.extend(bytes);
        self.finished = bytes.len() < self.block_size;
        if self.finished || self.blocks - self.acknowledged == self.window {
            self.acknowledge()?;
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<()> {
        self.acknowledged = self.blocks;
        self.last_sent = ack(self.blocks as u16);
        self.caller.send(&self.last_sent)
    }

    fn next(&mut self) -> Result<Packet> {
        for _ in 0..SENDS {
            if let Some(packet) = self.caller.hear(REPEAT)? {
                return Ok(packet);
            }
            self.repeats += 1;
            self.caller.send(&self.last_sent)?;
        }
        bail!("{}: nothing more after {} blocks, {} bytes", self.caller.own, self.blocks, self.bytes.len())
    }
}

/// A transfer that ended well.
#[derive(Debug)]
pub struct Finished {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its blocks.
    pub blocks: u64,
    /// Packets of both sides, including those lost to [`Fault`]s.
    pub packets: u64,
    /// How often the client's own timer ran out.
    pub repeats: u32,
}

/// The number of packets of a transfer without faults: request, OACK and its ACK, the blocks, an ACK for each window.
pub fn clean_packets(size: usize, block_size: u16, window: u16) -> u64 {
    let blocks = size as u64 / u64::from(block_size) + 1;
    3 + blocks + blocks.div_ceil(u64::from(window))
}
