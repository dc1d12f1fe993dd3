//! The frames that tcpdump recorded: [`Segment::capture`](crate::rack::Segment::capture) writes such files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// One frame, and its time since 1970.
#[derive(Clone, Debug)]
pub struct Captured {
    /// To the microsecond.
    pub at: Duration,
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
}

/// The frames in a file to which tcpdump may still be writing: an unfinished one at its end is left out.
pub fn read(file: &Path) -> Result<Vec<Captured>> {
    let mut captured = Vec::new();
    Frames::open(file)?.each(|at, frame| {
        captured.push(Captured { at, frame: frame.to_vec() });
        Ok(())
    })?;
    Ok(captured)
}

/// The frames in a file to which tcpdump may still be writing, each of them once.
#[derive(Debug)]
pub struct Frames<R> {
    source: R,
    /// Bytes that were read and not yet handed over: no more than [`PIECE`] and a frame.
    unread: Vec<u8>,
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Bytes before the first frame.
const FILE_HEADER: usize = 24;
/// Bytes before each frame.
const FRAME_HEADER: usize = 16;

impl Frames<File> {
    /// From the first frame on.
    pub fn open(file: &Path) -> Result<Self> {
        Self::new(File::open(file)?).with_context(|| format!("read {}", file.display()))
    }
}

impl<R: Read> Frames<R> {
    fn new(mut source: R) -> Result<Self> {
        let mut header = [0; FILE_HEADER];
        source.read_exact(&mut header)?;
        let known = number(&header, 0) == Some(0xa1b2_c3d4);
        ensure!(known, "no capture with microseconds in this machine's byte order");
        Ok(Self { source, unread: Vec::new() })
    }

    /// Hands over every frame that is complete by now and was not handed over before, with its time since 1970; ends at the
    /// first error.
    pub fn each(&mut self, mut take: impl FnMut(Duration, &[u8]) -> Result<()>) -> Result<()> {
        loop {
            let piece = (&mut self.source).take(PIECE as u64).read_to_end(&mut self.unread)?;
            let mut at = 0;
            while let Some((time, frame)) = frame(&self.unread[at..]) {
                take(time, frame)?;
                at += FRAME_HEADER + frame.len();
            }
            self.unread.drain(..at);
            if piece == 0 {
                return Ok(());
            }
        }
    }
}

fn frame(bytes: &[u8]) -> Option<(Duration, &[u8])> {
    let (seconds, micros) = (number(bytes, 0)?, number(bytes, 4)?);
    let frame = bytes.get(FRAME_HEADER..FRAME_HEADER + number(bytes, 8)? as usize)?;
    Some((Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into()), frame))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::io::Read;
    use std::rc::Rc;

    use super::Frames;

    /// A file that grows.
    #[derive(Clone, Default)]
    struct Growing(Rc<RefCell<VecDeque<u8>>>);

    impl Read for Growing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().read(buffer)
        }
    }

    #[test]
    fn whole_frames_are_given_once_and_a_half_one_when_it_is_whole() {
        let mut bytes = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        bytes.resize(24, 0);
        for (seconds, frame) in [(7_u32, &b"abc"[..]), (8, b"de")] {
            for number in [seconds, 5, frame.len() as u32, frame.len() as u32] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes.extend(frame);
        }
        let last = bytes.pop();
        let file = Growing::default();
        file.0.borrow_mut().extend(bytes);
        let mut frames = Frames::new(file.clone()).unwrap();
        let mut given = || {
            let mut given = Vec::new();
            frames.each(|at, frame| {
                given.push((at.as_micros(), frame.to_vec()));
                Ok(())
            })?;
            anyhow::Ok(given)
        };
        assert_eq!(given().unwrap(), [(7_000_005, b"abc".to_vec())]);
        assert_eq!(given().unwrap(), []);
        file.0.borrow_mut().extend(last);
        assert_eq!(given().unwrap(), [(8_000_005, b"de".to_vec())]);
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(Frames::new(&b"abcd"[..]).is_err());
        assert!(Frames::new(&[0; 100][..]).is_err());
    }
}
