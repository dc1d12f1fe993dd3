//! `cargo xtask bench`: the cost of an answer, a boot storm, a transfer.

use anyhow::Result;

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
}

/// Replaces this process by the benchmark.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(
        ws,
        if matches!(args.what, What::Dhcp | What::Http) { Scope::Servers } else { Scope::Programs },
    )?;
    build::release()?;
    Cmd::line("cargo build --release -p boot-bench").run()?;
    let program = match args.what {
        What::Answer => "boot-bench",
        What::Dhcp => "xpxe-bench-dhcp",
        What::Tftp => "xpxe-bench-tftp",
        What::Http => "xpxe-bench-http",
    };
    let bench = Cmd::line("").arg(ws.release(program)).args(args.args.clone());
    let nginx = setup::nginx::program(&ws.nginx());
    let bench = bench.env("XPXE_BIN", ws.release("xpxe")).env("XPXE_NGINX", nginx.to_string_lossy());
    bench.env("XPXE_PEERS", ws.peers().to_string_lossy()).root().exec()
}
