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
    let split =
        message(&[61, 1, 4, 255], &[61, 1, 3, 12, 1, 9, 255], &[53, 1, 1, 61, 1, 1, 52, 1, 3, 61, 1, 2, 255]);
    let reassembled = reassemble(&split).unwrap();
    assert_eq!(reassembled[OPTIONS..OPTIONS + 13], [53, 1, 1, 61, 4, 1, 2, 3, 4, 12, 1, 9, 255]);
    assert!(reassembled[OPTIONS + 13..].iter().all(|byte| *byte == 0) && reassembled.len() == split.len());
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
