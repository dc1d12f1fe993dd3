//! Rewrites a request as the walk that both halves share can read it: each option once, from one place, in one frame.
//!
//! Reassembled is what came in several pieces (RFC 3396), and what continues in `file` and `sname` (RFC 2132 section 9.3).
//! Left out are PAD and the options that nobody reads, so that a message may be as long as UDP carries it.

use boot_common::wire::{HEADERS, MAX_FRAME, option};

/// Where `sname`, `file` and the options begin in a DHCP message.
const SNAME: usize = 44;
const FILE: usize = 108;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;
/// The longest message that one frame carries.
const LONGEST: usize = MAX_FRAME - HEADERS;
/// The longest data of an option in one piece.
const LONGEST_PIECE: usize = 255;

/// The message with each option that is read once, in the options field only. `None` when an option runs past the end
/// of its field.
///
/// The pieces of an option are reassembled in the order options, `file`, `sname` (RFC 3396 section 7).
pub(crate) fn reassemble(message: &[u8]) -> Option<Vec<u8>> {
    let mut options = Vec::new();
    collect(message.get(OPTIONS..)?, &mut options)?;
    let overload = options.iter().find(|(code, _)| *code == option::OVERLOAD);
    let overload = overload.and_then(|(_, data)| data.first().copied()).unwrap_or(0);
    let mut reassembled = message.get(..OPTIONS)?.to_vec();
    for (bit, field) in [(1, FILE..COOKIE), (2, SNAME..FILE)] {
        if overload & bit != 0 && overload <= 3 {
            collect(message.get(field.clone())?, &mut options)?;
            reassembled.get_mut(field)?.fill(0);
        }
    }
    for (code, mut data) in options {
        if code == option::OVERLOAD {
            continue;
        }
        if data.len() > LONGEST_PIECE {
            // Of the others the beginning says all that is read.
            if matches!(code, option::CLIENT_ID | option::RELAY_AGENT) {
                continue;
            }
            data.truncate(LONGEST_PIECE);
        }
        reassembled.push(code);
        reassembled.push(u8::try_from(data.len()).ok()?);
        reassembled.extend_from_slice(&data);
    }
    reassembled.push(option::END);
    // BOOTP is known by its length.
    reassembled.resize(reassembled.len().max(message.len().min(LONGEST)), option::PAD);
    Some(reassembled)
}

/// An option of a message whose options are all in their own field, reassembled from its pieces.
pub(crate) fn option_of(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut option: Option<Vec<u8>> = None;
    each(message.get(OPTIONS..)?, |found, data| {
        if found == code {
            option.get_or_insert_default().extend_from_slice(data);
        }
    })?;
    option
}

/// Adds the options of one field that are read, each to the pieces it already has.
fn collect(field: &[u8], options: &mut Vec<(u8, Vec<u8>)>) -> Option<()> {
    each(field, |code, data| match options.iter_mut().find(|(known, _)| *known == code) {
        Some((_, pieces)) => pieces.extend_from_slice(data),
        None => options.push((code, data.to_vec())),
    })
}

/// Calls `take` for each piece of an option that is read. None if the field is broken.
fn each(mut field: &[u8], mut take: impl FnMut(u8, &[u8])) -> Option<()> {
    loop {
        match field {
            [] | [option::END, ..] => return Some(()),
            [option::PAD, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (data, rest) = rest.split_at_checked(usize::from(*length))?;
                field = rest;
                if option::READ.contains(code) {
                    take(*code, data);
                }
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests;
