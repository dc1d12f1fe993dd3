//! `xpxe-bench`: xpxe beside other servers, in one run on one machine.
//!
//! | file | gives |
//! | --- | --- |
//! | [`answer`] | what one answer costs, on the host and at each hook |
//! | [`storm`] | DHCP: first boots, storms, renewals |
//! | [`tftp`] | TFTP transfers |
//! | [`http`] | downloads, scripts, and DHCP and TFTP beside downloads |
//! | [`peers`] | the programs of other servers |
//! | [`machines`] | a registry of many machines |
//! | [`row`] | a row of machines that power on at once: DHCP, TFTP and HTTP together |

mod answer;
mod http;
mod machines;
mod peers;
mod row;
mod storm;
mod tftp;

use anyhow::Result;
use boot_tests::sys::restore_default_signals;
use clap::Parser;

/// xpxe beside other servers, in one run on one machine.
#[derive(Debug, Parser)]
enum Bench {
    /// The cost of one answer, on the host and at each hook
    Answer,
    /// DHCP exchanges and boot storms
    Dhcp(storm::command::Args),
    /// TFTP transfers
    Tftp(tftp::Args),
    /// Downloads and scripts, and DHCP and TFTP beside downloads
    Http(http::Args),
    /// A row of machines that power on at once
    Row(row::Args),
    /// A registry of many machines
    Machines(machines::Args),
}

fn main() -> Result<()> {
    let bench = Bench::parse();
    restore_default_signals()?;
    match bench {
        Bench::Answer => answer::run(),
        Bench::Dhcp(args) => storm::command::run(&args),
        Bench::Tftp(args) => tftp::run(&args),
        Bench::Http(args) => http::run(&args),
        Bench::Row(args) => row::run(&args),
        Bench::Machines(args) => machines::run(&args),
    }
}
