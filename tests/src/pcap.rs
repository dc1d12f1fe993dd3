//! What tcpdump recorded: [`Segment::capture`](crate::rack::Segment::capture) writes such files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// One frame, and when it passed since 1970.
#[derive(Clone, Debug)]
pub struct Captured {
    /// To the microsecond.
    pub at: Duration,
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
}

/// The frames in a file to which tcpdump may still be writing: an unfinished one at its end is left out.
pub fn read(file: &Path) -> Result<Vec<Captured>> {
    parse(&fs::read(file).with_context(|| format!("read {}", file.display()))?)
}

fn parse(bytes: &[u8]) -> Result<Vec<Captured>> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    ensure!(number(0) == Some(0xa1b2_c3d4), "no capture with microseconds in this machine's byte order");
    let mut at = 24;
    let mut frames = Vec::new();
    while let (Some(seconds), Some(micros), Some(length)) = (number(at), number(at + 4), number(at + 8)) {
        let Some(frame) = bytes.get(at + 16..at + 16 + length as usize) else { break };
        let time = Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into());
        frames.push(Captured { at: time, frame: frame.to_vec() });
        at += 16 + length as usize;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn whole_frames_are_read_and_a_half_one_is_left_out() {
        let mut bytes = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        bytes.resize(24, 0);
        for (seconds, frame) in [(7_u32, &b"abc"[..]), (8, b"de")] {
            for number in [seconds, 5, frame.len() as u32, frame.len() as u32] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes.extend(frame);
        }
        let frames = parse(&bytes).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].at.as_micros(), &frames[1].frame[..]), (7_000_005, &b"de"[..]));
        bytes.pop();
        assert_eq!(parse(&bytes).unwrap().len(), 1);
        assert!(parse(b"abcd").is_err());
    }
}
