//! The engine as a black box: DHCP messages and time in, commands out.

mod boot_files;
mod booting;
mod elsewhere;
mod fitting;
mod give_back;
mod groups;
mod impossible_relays;
mod kept;
mod lab;
mod loaders;
mod offers;
mod places;
mod pools;
mod ports;
mod probes;
mod promises;
mod proxy;
mod recognised;
mod registry;
mod relays;
mod reload;
mod requests;
mod reserved;
mod restarts;
mod returned;
mod shared;
mod subnets;
mod wire;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::class::Firmware;
use boot_common::tables::HostKey;
use boot_common::{Mac, Reason};
use boot_fixtures::message::{
    NODE1, OTHER, SERVER, UNKNOWN, decline, discover, message, pxe, relayed, release, renewal, request,
};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption, relay};
use dhcproto::{Decodable as _, Encodable as _};

use crate::Engine;
use crate::command::{Command, Incoming, Via};
use crate::config::{self, DhcpRole};
use crate::dhcp::packet::payload;
use crate::events::{Fault, Step};
use crate::leases::bindings::{OFFER_HOLDS, QUARANTINE, RELEASE_HOLDS};
use crate::leases::{Change, Lease, LeaseState};
use crate::policy::{Policy, ServedLink};
use lab::{Lab, Reply, confirmed, machines};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.34"]
    router = "10.1.0.1"
    dns = ["10.1.1.2", "10.1.1.3"]
    domain = "mtl"
    [[subnet]]
    cidr = "10.2.0.0/24"
    pool = ["10.2.0.100-10.2.0.110"]
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    ip = "10.1.1.50"
"#;

/// In the second subnet of [`CONFIG`].
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
