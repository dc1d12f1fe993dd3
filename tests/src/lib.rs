//! Racks in network namespaces, real clients and real firmware.
//!
//! The fixtures of tests, from the ground up:
//!
//! | file | gives |
//! | --- | --- |
//! | [`wait`] | conditions with a deadline instead of sleeps |
//! | [`netns`] | anonymous network namespaces and the processes in them |
//! | [`certificates`] | a certificate authority |
//! | [`secure_boot`] | programs signed by a test, and firmware that trusts them |
//! | [`s3`] | an upstream that checks signatures |
//! | [`hanging_disk`] | a file system whose disk can be made to hang |
//! | [`sandbox`] | private mounts: a scratch directory and a bpffs |
//! | [`rack`] | a server, a switch, clients and neighbours |
//! | [`guest`] | the operating system a machine ends up in |
//! | [`kernel`] | a machine that runs xpxe on another kernel |
//! | [`machine`] | a machine with real firmware |
//! | [`reference`](mod@reference) | a common boot server: dnsmasq and a plain HTTP server |
//! | [`boots`] | machines from power-on to their operating system's report |
//! | [`daemon`] | xpxe itself |
//! | [`browser`] | a browser that shows pages of xpxe |
//! | [`settings`] | xpxe's configuration |
//! | [`place`] | a rack with the usual settings, for tests without firmware |
//! | [`dhcp_client`] | a DHCP client made of single frames |
//! | [`engine`] | xpxe's engine alone |
//! | [`origin`] | an upstream of images, right and wrong |
//! | [`packet`] | requests as real clients send them |
//! | [`pcap`] | the frames that tcpdump recorded |
//! | [`source`] | Rust source: code without tests, and its imports |
//! | [`tftp_capture`] | the files that a client fetched, from a recording of tcpdump |
//! | [`tftp_client`] | a TFTP client made of single frames |
//! | [`tftp_rack`] | a rack that serves files, and loses packets on request |
//!
//! A test enters a [`Sandbox`](sandbox::Sandbox) first, builds a [`Rack`](rack::Rack) in it, and starts its
//! programs. Namespaces are anonymous, mounts private, and children die with their parent, so nothing
//! outlives the test process, however it ends. Everything needs root: a test begins with
//! [`root_or_skip`](sandbox::root_or_skip).

pub mod agent;
pub mod bmc;
pub mod boots;
pub mod browser;
pub mod certificates;
pub mod circle;
pub mod daemon;
pub mod dhcp_client;
pub mod guest;
pub mod hanging_disk;
pub mod kernel;
pub mod machine;
pub mod netns;
pub mod origin;
pub mod pcap;
pub mod place;
pub mod rack;
pub mod receiver;
pub mod reference;
pub mod s3;
pub mod sandbox;
pub mod secure_boot;
pub mod settings;
pub mod source;
pub mod sys;
pub mod tftp_capture;
pub mod tftp_client;
pub mod tftp_rack;
pub mod wait;

pub use boot_fixtures::{engine, packet, random};
