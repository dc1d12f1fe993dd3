//! Frames as a pcapng file (draft-ietf-opsawg-pcapng): what Wireshark and tcpdump read, with comments.

use std::io::{self, Write};

use crate::io::record::SNAP;

/// A recorded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// When, in microseconds since the Unix epoch.
    pub(super) at: u64,
    /// The position of its interface.
    pub(super) interface: u32,
    /// Its bytes, as many as are kept.
    pub(super) bytes: Vec<u8>,
    /// What the machine's boot says of it.
    pub(super) comments: Vec<String>,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;
/// Options: the end, a comment, an interface's name.
const END: u16 = 0;
const COMMENT: u16 = 1;
const NAME: u16 = 2;

/// Writes a whole file: the interfaces by their names, and the frames in their order.
pub(super) fn write(
    to: &mut impl Write,
    comment: &str,
    interfaces: &[String],
    frames: &[Frame],
) -> io::Result<()> {
    let mut section = Vec::new();
    section.extend(BYTE_ORDER.to_le_bytes());
    section.extend([1, 0, 0, 0]); // Version 1.0.
    section.extend([0xff; 8]); // The section's length is not told.
    options(&mut section, &[(COMMENT, comment)]);
    block(to, SECTION, &section)?;
    for name in interfaces {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend((SNAP as u32).to_le_bytes());
        options(&mut body, &[(NAME, name)]);
        block(to, INTERFACE, &body)?;
    }
    for Frame { at, interface, bytes, comments } in frames {
        let length = (bytes.len() as u32).to_le_bytes();
        let mut body = Vec::new();
        body.extend(interface.to_le_bytes());
        body.extend(((at >> 32) as u32).to_le_bytes());
        body.extend((*at as u32).to_le_bytes());
        body.extend(length);
        body.extend(length);
        body.extend(bytes);
        pad(&mut body);
        let comments: Vec<(u16, &str)> = comments.iter().map(|text| (COMMENT, text.as_str())).collect();
        options(&mut body, &comments);
        block(to, PACKET, &body)?;
    }
    to.flush()
}

fn block(to: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    // Type, length, the body, and the length again.
    let length = (body.len() as u32 + 12).to_le_bytes();
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length)?;
    to.write_all(body)?;
    to.write_all(&length)
}

fn options(body: &mut Vec<u8>, options: &[(u16, &str)]) {
    if options.is_empty() {
        return;
    }
    for (code, text) in options {
        // A longer one has no length.
        let text = text.as_bytes().get(..text.len().min(4096)).unwrap_or_default();
        body.extend(code.to_le_bytes());
        body.extend((text.len() as u16).to_le_bytes());
        body.extend(text);
        pad(body);
    }
    body.extend(END.to_le_bytes());
    body.extend([0, 0]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Puts each step of a boot (in milliseconds since the Unix epoch, and its words) beside the last frame before it: the step
/// is told when what it tells of has left, or has come.
pub(super) fn comment(frames: &mut [Frame], steps: &[(u64, String)]) {
    for (at, says) in steps {
        // A step's time is cut to a millisecond.
        let until = (at + 1) * 1000;
        let behind = frames.partition_point(|frame| frame.at < until);
        if let Some(frame) = frames.get_mut(behind.saturating_sub(1)) {
            frame.comments.push(says.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(at: u64) -> Frame {
        Frame { at, interface: 0, bytes: vec![7; 61], comments: Vec::new() }
    }

    #[test]
    fn a_step_is_beside_the_last_frame_before_it() {
        let mut frames = vec![frame(1_000_500), frame(1_002_500), frame(1_900_000)];
        let steps = [(999, "early"), (1002, "offered"), (1002, "gave"), (5000, "fetched")];
        comment(&mut frames, &steps.map(|(at, says)| (at, says.to_owned())));
        let comments: Vec<Vec<String>> = frames.into_iter().map(|frame| frame.comments).collect();
        assert_eq!(comments, [vec!["early"], vec!["offered", "gave"], vec!["fetched"]]);
        comment(&mut [], &[(1, "nothing was heard".to_owned())]);
    }

    #[test]
    fn the_file_is_of_whole_blocks() {
        let mut file = Vec::new();
        let commented = Frame { comments: vec!["offered".to_owned()], ..frame(0x1_0000_0001) };
        write(&mut file, "node1", &["eth1".to_owned()], &[commented, frame(3)]).unwrap();
        let mut rest = &file[..];
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert!(length.is_multiple_of(4) && word(length - 4) as usize == length, "{length}");
            kinds.push(word(0));
            if word(0) == PACKET {
                assert_eq!(word(20), 61, "its length");
            }
            rest = &rest[length..];
        }
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET]);
    }
}
