//! `cargo xtask bench`: the cost of an answer, a boot storm, a transfer.

use anyhow::{Context, Result};

use crate::{
    build,
    cmd::Cmd,
    setup::{self, Scope},
    workspace::Workspace,
};

/// Set up, build and run the benchmarks as root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark to run.
    #[arg(value_enum, default_value = "answer")]
    what: What,
    /// Arguments of the benchmark.
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum What {
    /// The cost of one answer, on the host and at each hook
    Answer,
    /// DHCP exchanges and boot storms, side by side with dnsmasq, Kea, dhcpd and FreeRADIUS
    Dhcp,
    /// TFTP transfers, side by side with tftpd-hpa, dnsmasq and atftpd, if they are installed
    Tftp,
    /// Downloads and scripts, side by side with nginx, and DHCP and TFTP beside downloads
    Http,
    /// A row of machines that power on at once, side by side with Kea, tftpd-hpa and nginx together
    Row,
    /// A registry of many machines: bringing them, starting with them, changing, listing and finding one
    Machines,
}

/// Replaces this process by the benchmark.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(
        ws,
        if matches!(args.what, What::Dhcp | What::Tftp | What::Http | What::Row) {
            Scope::Servers
        } else {
            Scope::Programs
        },
    )?;
    build::release()?;
    Cmd::line("cargo build --release -p boot-bench").run()?;
    let what = clap::ValueEnum::to_possible_value(&args.what).context("a hidden benchmark")?;
    let bench = Cmd::line("").arg(ws.release("xpxe-bench")).arg(what.get_name()).args(args.args.clone());
    let nginx = setup::nginx::program(&ws.nginx());
    let bench = bench.env("XPXE_BIN", ws.release("xpxe")).env("XPXE_NGINX", nginx.to_string_lossy());
    bench.env("XPXE_PEERS", ws.peers().to_string_lossy()).root().exec()
}
