//! What frames are made from, and how they are damaged.

use super::*;

/// A frame as a client sent it.
pub(super) struct Original {
    pub(super) name: String,
    pub(super) on: On,
    pub(super) frame: Vec<u8>,
}

pub(super) fn originals() -> Vec<Original> {
    let mut all = Vec::new();
    let mut add = |name: String, on: On, packet: &Packet| {
        all.push(Original { name, on, frame: packet.frame() });
    };
    let relay = Ipv4Addr::new(10, 77, 0, 254);
    let foreign_server = Ipv4Addr::new(10, 77, 0, 9);
    for client in Client::ALL {
        for (what, machine) in [("leased", LEASED), ("pooled", POOLED)] {
            let Machine { mac, ip } = machine;
            add(format!("{client:?} discover, {what}"), On::Server, &client.discover(mac));
            add(format!("{client:?} request, {what}"), On::Server, &client.request(mac, ip, SERVER));
            add(
                format!("{client:?} asks on 4011, {what}"),
                On::Server,
                &client.ask_boot_server(mac, ip, SERVER),
            );
        }
        let Machine { mac, ip } = LEASED;
        add(format!("{client:?} reboots"), On::Server, &client.reboot(mac, ip));
        add(format!("{client:?} renews"), On::Server, &client.renew(mac, ip, SERVER));
        add(format!("{client:?} informs"), On::Server, &client.inform(mac, ip, SERVER));
        add(format!("{client:?} relayed"), On::Server, &client.discover(mac).relayed(relay, SERVER));
        let elsewhere = Ipv4Addr::new(10, 79, 0, 254);
        add(
            format!("{client:?} relayed from elsewhere"),
            On::Server,
            &client.discover(mac).relayed(elsewhere, SERVER),
        );
        for (what, sub_options) in [
            ("link selection", &[5, 4, 10, 77, 0, 0][..]),
            ("another link selected", &[5, 4, 10, 79, 0, 0]),
            ("server override", &[1, 2, 7, 7, 11, 4, 10, 77, 0, 254]),
            ("source port", &[19, 0, 1, 2, 7, 7]),
            ("source port in the wrong form", &[1, 2, 7, 7, 19, 1, 0]),
            ("sub-options past the end", &[1, 2, 7, 7, 5, 9, 10]),
        ] {
            let mut packet = client.discover(mac).relayed(relay, SERVER);
            packet.options.retain(|(code, _)| *code != 82);
            packet.source.set_port(40_067);
            add(format!("{client:?} relayed, {what}"), On::Server, &packet.clone().with(82, sub_options));
            let mut packet = client.request(mac, ip, relay).relayed(relay, SERVER);
            packet.options.retain(|(code, _)| *code != 82);
            add(format!("{client:?} request relayed, {what}"), On::Server, &packet.with(82, sub_options));
        }
        add(format!("{client:?} chose another"), On::Server, &client.request(mac, ip, foreign_server));
        add(format!("{client:?} wants another"), On::Server, &client.request(mac, UNKNOWN.ip, SERVER));
        let pooled = client.discover(POOLED.mac).relayed(relay, SERVER);
        add(format!("{client:?} relayed, port decides"), On::Server, &pooled);
        let Machine { mac, ip } = NEVER_LEASED;
        add(format!("{client:?} discover, not durable"), On::Server, &client.discover(mac));
        add(format!("{client:?} request, not durable"), On::Server, &client.request(mac, ip, SERVER));
        for on in [On::Server, On::Proxy] {
            add(format!("{client:?} discover, ignored"), on, &client.discover(IGNORED.mac));
        }
        let Machine { mac, ip } = UNKNOWN;
        add(format!("{client:?} discover, unknown"), On::Server, &client.discover(mac));
        let behind_proxy = Ipv4Addr::from(u32::from(ip) + (1 << 16));
        add(format!("{client:?} discover, proxy"), On::Proxy, &client.discover(mac));
        add(
            format!("{client:?} request, proxy"),
            On::Proxy,
            &client.request(mac, behind_proxy, foreign_server),
        );
        add(
            format!("{client:?} asks on 4011, proxy"),
            On::Proxy,
            &client.ask_boot_server(mac, behind_proxy, PROXY),
        );
    }
    let with_arch = |mac: Mac, vendor: &[u8], arch: u16| {
        let mut packet = Client::Edk2Pxe.discover(mac);
        packet.options.retain(|(code, _)| !matches!(code, 60 | 93));
        packet.with(60, vendor).with(93, &arch.to_be_bytes())
    };
    for arch in (0..45).chain([99, 0x1000]) {
        add(format!("PXE {arch}"), On::Server, &with_arch(LEASED.mac, b"PXEClient", arch));
    }
    for arch in [0, 7, 20, 24, 41, 99] {
        add(format!("HTTP {arch}"), On::Server, &with_arch(LEASED.mac, b"HTTPClient", arch));
        add(format!("Raspberry Pi {arch}"), On::Proxy, &with_arch(RASPBERRY_PI, b"PXEClient", arch));
    }
    let mut nameless = Client::Edk2Pxe.discover(LEASED.mac);
    nameless.options.retain(|(code, _)| *code != 55);
    add("no list".to_owned(), On::Server, &nameless);
    add("a list without the name".to_owned(), On::Server, &nameless.with(55, &[1, 3, 66, 67]));
    let Machine { mac, ip } = LEASED;
    let big = Client::IpxeEfi.discover(mac).with(57, &[2, 64]);
    add("big identifiers".to_owned(), On::Server, &big.clone().with(82, &[7; 250]));
    let mut long_identifier = Client::Dhclient.discover(mac).with(61, &[9; 255]);
    add("long client identifier".to_owned(), On::Server, &long_identifier);
    long_identifier.options.insert(1, (57, vec![5, 220]));
    add("long client identifier, large packets".to_owned(), On::Server, &long_identifier);
    for (name, frame) in [("TFTP", tftp_read(mac, ip, SERVER, "snponly.efi")), ("foreign", foreign(mac))] {
        all.push(Original { name: name.to_owned(), on: On::Server, frame });
    }
    all
}

/// One way to damage a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    Bytes,
    OptionBytes,
    Field,
    Truncate,
    Pad,
    ManyPads,
    ManyOptions,
    Lengths,
    Shuffle,
    Duplicate,
    Delete,
    Insert,
    Graft,
    /// Lengths were made right again.
    FixLengths,
    /// Checksums were made right again.
    FixChecksums,
    /// The UDP checksum was left to an offload.
    Unfinished,
}

const DAMAGES: [Damage; 13] = [
    Damage::Bytes,
    Damage::OptionBytes,
    Damage::Field,
    Damage::Truncate,
    Damage::Pad,
    Damage::ManyPads,
    Damage::ManyOptions,
    Damage::Lengths,
    Damage::Shuffle,
    Damage::Duplicate,
    Damage::Delete,
    Damage::Insert,
    Damage::Graft,
];

/// By how much a frame may grow: BPF_PROG_TEST_RUN takes what one page holds, twice what a cable carries.
fn room(frame: &[u8]) -> usize {
    3000_usize.saturating_sub(frame.len())
}

/// Offset of the options in a frame.
const OPTIONS: usize = 282;

pub(super) fn damaged(original: &[u8], all: &[Original], random: &mut Random) -> (Vec<u8>, Vec<Damage>) {
    let mut frame = original.to_vec();
    let mut done = Vec::new();
    for _ in 0..=random.below(3) {
        let damage = *random.of(&DAMAGES);
        damage.apply(&mut frame, all, random);
        done.push(damage);
    }
    let lied: BTreeSet<Damage> = done.iter().copied().collect();
    // A lie about lengths, or padding behind the packet, is the point of some damages.
    let about_lengths = lied.contains(&Damage::Lengths) || lied.contains(&Damage::Pad);
    if random.below(10) < if about_lengths { 3 } else { 9 } {
        fix_lengths(&mut frame);
        done.push(Damage::FixLengths);
    }
    if random.below(10) < 9 {
        fix_checksums(&mut frame);
        done.push(Damage::FixChecksums);
        if random.below(8) == 0 && frame.len() >= 42 {
            let length = u16::from_be_bytes([frame[38], frame[39]]);
            let word = |at: usize| frame[at..at + 4].try_into().unwrap_or_default();
            let pseudo = boot_common::wire::Sum::pseudo(word(26), word(30), length).folded();
            frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
            done.push(Damage::Unfinished);
        }
    }
    (frame, done)
}

impl Damage {
    fn apply(self, frame: &mut Vec<u8>, all: &[Original], random: &mut Random) {
        match self {
            Self::Bytes => change(frame, 0, random),
            Self::OptionBytes => change(frame, OPTIONS, random),
            Self::Field => field(frame, random),
            Self::Truncate => {
                let from = if random.below(4) == 0 { 0 } else { OPTIONS.min(frame.len()) };
                frame.truncate(from + random.below(frame.len() - from + 1));
            }
            Self::Pad => {
                let most = if random.below(8) == 0 { 2000 } else { 120 };
                let length = (frame.len() + random.below(most)).min(3000);
                frame.resize(length, random.byte());
            }
            Self::ManyPads => {
                let pads = random.below(1100).min(room(frame));
                insert(frame, &vec![0; pads], random);
            }
            Self::ManyOptions => {
                let options = random.below(500).min(room(frame) / 2);
                insert(frame, &[224, 0].repeat(options), random);
            }
            Self::Lengths => {
                let at = *random.of(&[16, 38]);
                if let Some(bytes) = frame.get_mut(at..at + 2) {
                    let length = i64::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    let other =
                        *random.of(&[length - 1, length + 1, length - 20, length + 8, 0, 7, 28, 1500, 65535]);
                    bytes.copy_from_slice(&u16::try_from(other.clamp(0, 65535)).unwrap_or(0).to_be_bytes());
                }
            }
            Self::Shuffle => with_options(frame, |options| {
                for last in (1..options.len()).rev() {
                    options.swap(last, random.below(last + 1));
                }
            }),
            Self::Duplicate => with_options(frame, |options| {
                let copy = options.get(random.below(options.len())).cloned();
                let at = random.below(options.len() + 1);
                options.splice(at..at, copy);
            }),
            Self::Delete => with_options(frame, |options| {
                let at = random.below(options.len());
                options.splice(at..(at + 1).min(options.len()), None);
            }),
            Self::Insert => {
                let code = *random.of(&[12, 43, 50, 52, 53, 54, 57, 60, 61, 77, 82, 93, 97, 116, 175, 224]);
                let most = if random.below(6) == 0 { 256 } else { 20 };
                let data: Vec<u8> = (0..random.below(most)).map(|_| random.byte() & 0x1f).collect();
                let length = u8::try_from(data.len()).unwrap_or(0);
                insert(frame, &[&[code, length][..], &data].concat(), random);
            }
            // Another client's option among these.
            Self::Graft => {
                let (_, others) = split_options(&random.of(all).frame);
                if !others.is_empty() {
                    let option = random.of(&others).clone();
                    insert(frame, &option, random);
                }
            }
            Self::FixLengths | Self::FixChecksums | Self::Unfinished => {}
        }
    }
}

/// Changes one to eight bytes from `from` on.
fn change(frame: &mut [u8], from: usize, random: &mut Random) {
    let Some(bytes) = frame.get_mut(from..).filter(|bytes| !bytes.is_empty()) else { return };
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        bytes[at] = match random.below(4) {
            0 => bytes[at] ^ (1 << random.below(8)),
            1 => *random.of(&[0, 1, 4, 6, 52, 82, 255]),
            2 => bytes[at].wrapping_add(1),
            _ => random.byte(),
        };
    }
}

/// Gives a header field a value that means something.
fn field(frame: &mut [u8], random: &mut Random) {
    const FIELDS: [(usize, &[u8]); 24] = [
        (0, &[2, 0, 0, 0, 1, 1]),
        (0, &[0x33, 0x33, 0, 0, 0, 1]),
        (6, &[1, 0, 0, 0, 0, 0]),
        (12, &[0x81, 0]),
        (12, &[0x86, 0xdd]),
        (14, &[0x46]),
        (14, &[0x65]),
        (20, &[0x20, 0]),
        (20, &[0x40, 0]),
        (20, &[0, 9]),
        (23, &[6]),
        (26, &[127, 0, 0, 1]),
        (26, &[10, 77, 0, 11]),
        (30, &[10, 77, 0, 1]),
        (30, &[10, 77, 0, 99]),
        (36, &[0, 67]),
        (36, &[0x0f, 0xab]),
        (34, &[0, 0]),
        (40, &[0, 0]),
        (42, &[2]),
        (44, &[16]),
        (52, &[0x80, 0]),
        (54, &[10, 77, 0, 11]),
        (66, &[10, 77, 0, 254]),
    ];
    let (at, value) = *random.of(&FIELDS);
    if let Some(bytes) = frame.get_mut(at..at + value.len()) {
        bytes.copy_from_slice(value);
    }
}

/// The frame up to its options, and the options up to END, each whole.
fn split_options(frame: &[u8]) -> (usize, Vec<Vec<u8>>) {
    let mut options = Vec::new();
    let mut at = OPTIONS;
    while let Some([code, length]) = frame.get(at..at + 2)
        && *code != 255
    {
        let next = if *code == 0 { at + 1 } else { at + 2 + usize::from(*length) };
        let Some(option) = frame.get(at..next) else { break };
        options.push(option.to_vec());
        at = next;
    }
    (at, options)
}

fn with_options(frame: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let (end, mut options) = split_options(frame);
    if end <= OPTIONS || frame.len() < OPTIONS {
        return;
    }
    change(&mut options);
    let rest = frame.split_off(end);
    frame.truncate(OPTIONS);
    frame.extend(options.concat());
    frame.extend(rest);
}

fn insert(frame: &mut Vec<u8>, option: &[u8], random: &mut Random) {
    with_options(frame, |options| {
        let at = random.below(options.len() + 1);
        options.insert(at, option.to_vec());
    });
}
