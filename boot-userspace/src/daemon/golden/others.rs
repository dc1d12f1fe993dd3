//! TFTP, operators, and what lies between the kernel half and the daemon.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_engine::config::{ImageName, Sha256Digest};
use boot_engine::events::{
    BootEvent, Conflict, Events, Http, Image, LinkName, Machine, Meanwhile, NoTls, Shared, Sink as _, Step,
    SwitchFrame,
};
use boot_engine::leases::Which;
use boot_engine::lifecycle::{Act, Done, Past, State};
use tokio::sync::oneshot;

use boot_fixtures::message::{UNKNOWN, discover};

use super::dhcp::Lab;
use crate::daemon::request::Ask;
use crate::daemon::{Daemon, log, unheard};
use crate::host::clock;
use crate::store::Store;

pub(super) fn tftp() {
    crate::io::tftp::golden(Arc::new(log::events()));
}

pub(super) fn images() {
    let name: ImageName = "vmlinuz".parse().unwrap();
    let digest: Sha256Digest = "ab".repeat(32).parse().unwrap();
    let (took, error) = (Duration::from_millis(1200), "https://host/vmlinuz says 503".to_owned());
    for image in [
        Image::StoreIsOpen("others may write to the store".to_owned()),
        Image::BadRecord { name: name.clone(), error: "this is no record of an image".to_owned() },
        Image::Unreadable { digest, error: "Input/output error (os error 5)".to_owned() },
        Image::Damaged { digest, path: "blobs/abab".to_owned(), store: "images".to_owned() },
        Image::Waits { name: name.clone(), running: "initrd, other".to_owned() },
        Image::Retried { name: name.clone(), why: error.clone(), pause: Duration::from_secs(2) },
        Image::Fetched { name: name.clone(), digest, bytes: 146_799, took },
        Image::NotFetched { name: name.clone(), error: error.clone() },
        Image::NotCompared { name: name.clone(), error },
        Image::NotSigned { name: name.clone(), error: "the key in /k cannot be read".to_owned() },
        Image::Removed { digest, bytes: 146_799, names: Vec::new() },
        Image::Removed { digest, bytes: 146_799, names: vec![name] },
    ] {
        log::events().emit(BootEvent::new(Duration::ZERO, Step::Image(Box::new(image))));
    }
    let (file, bytes) = ("image vmlinuz".into(), 146_799);
    emit_http(Http::Relayed { file, bytes, took });
}

pub(super) fn tls() {
    for why in [
        NoTls::Http,
        NoTls::OldVersion,
        NoTls::NoCipher { offered: "TLS_DHE_RSA, TLS_RSA".to_owned() },
        NoTls::Distrusted("tlsv1 alert unknown ca".to_owned()),
        NoTls::Left,
        NoTls::Late,
        NoTls::Other("wrong version number".to_owned()),
    ] {
        emit_http(Http::NoTls(why));
    }
}

fn emit_http(http: Http) {
    log::events().emit(BootEvent::new(Duration::ZERO, Step::Http(Ipv4Addr::LOCALHOST.into(), http)));
}

pub(super) fn operators_and_host() {
    unheard::golden(&(Arc::new(log::events()) as Events));
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(operate());
}

pub(super) fn registry() {
    let machine = Machine { mac: boot_common::Mac([0x52, 0x54, 0, 0, 0, 1]), name: Some("node1".into()) };
    let became = |from, to, by: &str, why: &str| {
        let past = Past { at: 0, from, to, by: by.to_owned(), why: why.to_owned() };
        Step::BecameState(Box::new(past))
    };
    let told = |act, end| Step::Power(Box::new(Done { act, at: 0, by: "xpxe".to_owned(), end: Some(end) }));
    for step in [
        became(State::Discovered, State::Accepted, "operator", "it was accepted"),
        became(State::Installing, State::Failed, "xpxe", "it reports: no disk"),
        told(Act::On, Ok(())),
        told(Act::Off, Err("10.9.0.50 answers 500 Internal Server Error to ResetType ForceOff".to_owned())),
        Step::Progress { does: "wiping".into(), percent: Some(40) },
        Step::Progress { does: "verifying".into(), percent: None },
        Step::Overdue { state: State::Installing, limit: 3600, waits: "for its report (/phone-home)".into() },
        Step::Expected { serial: "CZ1234".into(), before: None },
        Step::Expected { serial: "CZ1234".into(), before: Some("52:54:00:00:00:01".into()) },
        Step::InventoryChanged(
            ["disk S2 (1.0 TiB) is gone".to_owned(), "disk S3 (1.0 TiB) is new".to_owned()].into(),
        ),
    ] {
        log::events().emit(BootEvent::new(Duration::ZERO, step).of(machine.clone()));
    }
    let (uuid, other) = (|| "4c4c4544-0042-3510-8052-b4c04f4e3132".into(), || "node2".into());
    for (what, meanwhile) in [
        (Shared::Uuid { uuid: uuid(), other: other() }, Meanwhile::ByMac),
        (Shared::Placeholder { uuid: "03000200-0400-0500-0006-000700080009".into() }, Meanwhile::ByMac),
        (
            Shared::OtherUuid { shown: uuid(), written: "4c4c4544-0042-3510-8052-b4c04f4e3133".into() },
            Meanwhile::Nothing,
        ),
        (Shared::Card { mac: boot_common::Mac([2; 6]), other: other() }, Meanwhile::Held),
        (
            Shared::Ports([
                "the switch port \"eth1/7\" of \"leaf1\"".into(),
                "the switch port \"eth1/9\" of \"leaf1\"".into(),
            ]),
            Meanwhile::Nothing,
        ),
        (Shared::Board { mark: "the serial number CZ1234".into(), other: other() }, Meanwhile::Waits),
        (Shared::Board { mark: "the BMC 10.9.0.50".into(), other: other() }, Meanwhile::Followed),
        (Shared::Serial { serial: "CZ1234".into(), other: other() }, Meanwhile::Waits),
        (Shared::NewBoard { before: "the board B1".into(), now: "the board B2".into() }, Meanwhile::Held),
        (
            Shared::Shadowed("node1 cannot have the address 10.1.1.60: it is node2's".into()),
            Meanwhile::Unserved,
        ),
    ] {
        let step = Step::Conflict(Box::new(Conflict { what, meanwhile }));
        log::events().emit(BootEvent::new(Duration::ZERO, step).of(machine.clone()));
    }
}

pub(super) fn beside() {
    let address = |last| Ipv4Addr::new(10, 1, 0, last);
    let (relay, asked, from) = (address(1), address(3), address(2));
    let station = boot_common::Mac([0, 0x1c, 0x73, 0, 0, 9]);
    let machine = Machine { mac: boot_common::Mac([0x52, 0x54, 0, 0, 0, 1]), name: Some("node1".into()) };
    for step in [
        Step::OtherFile { server: address(66), station: Some(station), file: "pxelinux.0".into() },
        Step::ReplySource { relay, asked, from, is_first: true },
        Step::ReplySource { relay, asked, from, is_first: false },
        Step::Switch(Box::new(SwitchFrame::Tree { station, version: 0, forward_delay: 15, forwards: None })),
        Step::Switch(Box::new(SwitchFrame::Lldp {
            station,
            switch: "leaf7".into(),
            port: "Ethernet9".into(),
        })),
    ] {
        let link = LinkName { index: 7, name: "eth1".into() };
        let event = BootEvent { link: Some(link), ..BootEvent::new(Duration::ZERO, step) };
        log::events().emit(event.of(machine.clone()));
    }
}

async fn operate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let text = "[[interface]]\nname = \"eth1\"\n[[subnet]]\ncidr = \"10.1.0.0/16\"\npool = [\"10.1.1.33-10.1.1.40\"]\n";
    let mut lab = Lab::new(text);
    // What somebody has already rests.
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    lab.send(&discover(UNKNOWN));
    store.commit(&lab.changes).await.unwrap();
    let Lab { engine, .. } = lab;
    let mut daemon = Daemon::new(engine, store, HashSet::new(), None, log::events());
    let entry = |last: u8| boot_engine::leases::Entry {
        mac: boot_common::Mac([0x52, 0x54, 0, 0, 0, last]),
        address: [10, 1, 1, 37 + last].into(),
        expires: Some(clock::wall().as_secs() + 1000),
        hostname: None,
    };
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Import { entries: vec![entry(1), entry(2)], dry_run: false, reply }).await;
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Delete(Which::Address([10, 1, 1, 38].into()), reply)).await;
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Delete(Which::Address([10, 1, 1, 33].into()), reply)).await;
}
