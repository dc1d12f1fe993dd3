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
    let mut options = Vec::new();
    collect(message.get(OPTIONS..)?, &mut options)?;
    options.into_iter().find(|(found, _)| *found == code).map(|(_, data)| data)
}

/// Adds the options of one field that are read, each to the pieces it already has.
fn collect(mut field: &[u8], options: &mut Vec<(u8, Vec<u8>)>) -> Option<()> {
    loop {
        match field {
            [] | [option::END, ..] => return Some(()),
            [option::PAD, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (data, rest) = rest.split_at_checked(usize::from(*length))?;
                field = rest;
                if !option::READ.contains(code) {
                    continue;
                }
                match options.iter_mut().find(|(known, _)| known == code) {
                    Some((_, pieces)) => pieces.extend_from_slice(data),
                    None => options.push((*code, data.to_vec())),
                }
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sname: &[u8], file: &[u8], options: &[u8]) -> Vec<u8> {
        let mut message = vec![7; OPTIONS];
        message[SNAME..COOKIE].fill(0);
        message[SNAME..SNAME + sname.len()].copy_from_slice(sname);
        message[FILE..FILE + file.len()].copy_from_slice(file);
        message.extend_from_slice(options);
        message
    }

    #[test]
    fn pieces_are_joined_from_options_file_and_sname_in_this_order() {
        let split = message(
            &[61, 1, 4, 255],
            &[61, 1, 3, 12, 1, 9, 255],
            &[53, 1, 1, 61, 1, 1, 52, 1, 3, 61, 1, 2, 255],
        );
        let reassembled = reassemble(&split).unwrap();
        assert_eq!(reassembled[OPTIONS..OPTIONS + 13], [53, 1, 1, 61, 4, 1, 2, 3, 4, 12, 1, 9, 255]);
        assert!(
            reassembled[OPTIONS + 13..].iter().all(|byte| *byte == 0) && reassembled.len() == split.len()
        );
        assert!(reassembled[SNAME..COOKIE].iter().all(|byte| *byte == 0));
        assert_eq!(reassembled[..SNAME], split[..SNAME]);
    }

    #[test]
    fn fields_without_overload_are_names() {
        let plain = message(b"server", b"file", &[61, 1, 1, 61, 1, 2, 255]);
        let reassembled = reassemble(&plain).unwrap();
        assert_eq!(reassembled[..OPTIONS], plain[..OPTIONS]);
        assert_eq!(reassembled[OPTIONS..], [61, 2, 1, 2, 255, 0, 0]);
        // Other values than 1 to 3 are ignored (RFC 2132 section 9.3).
        let wrong = message(&[61, 1, 4], &[], &[52, 1, 7, 53, 1, 1, 255]);
        assert_eq!(reassemble(&wrong).unwrap()[OPTIONS..OPTIONS + 4], [53, 1, 1, 255]);
    }

    #[test]
    fn what_lies_is_nothing() {
        assert_eq!(reassemble(&message(&[], &[], &[61, 9, 1])), None);
        assert_eq!(reassemble(&message(&[], &[61, 200], &[52, 1, 1, 255])), None);
        assert_eq!(reassemble(&[0; 200]), None);
    }

    #[test]
    fn what_nobody_reads_is_left_out() {
        let options = [&[0; 9][..], &[224, 1, 1, 0, 53, 1, 1, 43, 2, 7, 7, 255, 53, 1, 2]].concat();
        let mut expected = vec![53, 1, 1, 255];
        expected.resize(options.len(), 0);
        assert_eq!(reassemble(&message(&[], &[], &options)).unwrap()[OPTIONS..], expected);
    }

    #[test]
    fn of_what_is_too_long_for_one_piece_the_beginning_is_left_or_nothing() {
        let long = |code: u8| {
            let mut options = vec![code, 255];
            options.resize(257, 1);
            options.extend([code, 1, 1, 53, 1, 1, 255]);
            let reassembled = reassemble(&message(&[], &[], &options)).unwrap();
            reassembled[OPTIONS..].to_vec()
        };
        assert_eq!(long(61)[..4], [53, 1, 1, 255], "cannot be echoed as it was");
        assert_eq!(long(60)[..2], [60, 255]);
        assert_eq!(long(60)[257..261], [53, 1, 1, 255]);
    }

    #[test]
    fn a_message_of_any_length_fits_a_frame() {
        let mut options = vec![0; 60_000];
        options.extend([53, 1, 1, 255]);
        let reassembled = reassemble(&message(&[], &[], &options)).unwrap();
        assert_eq!(reassembled.len(), LONGEST);
        assert_eq!(reassembled[OPTIONS..OPTIONS + 4], [53, 1, 1, 255]);
    }
}
