//! `cargo xtask verify`: the kernel verifier's result for the kernel half, on this kernel and on others.

use anyhow::Result;

use crate::{
    build,
    cmd::Cmd,
    setup::{self, Scope, kernels},
    test,
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Build, then load the kernel half as root and show the verifier's instructions, stack and size.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run on Debian's kernels of these versions instead of on this one (6.1, 6.12, newest; all three if none is named),
    /// each in QEMU with xpxe inside and real clients outside.
    #[arg(long, value_name = "VERSION", num_args = 0..)]
    kernels: Option<Vec<String>>,
    /// Arguments of xpxe-verify.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Replaces this process by xpxe-verify, or by the test that boots the kernels.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let Some(versions) = &args.kernels else {
        build::run(ws)?;
        return Cmd::line("").arg(ws.release("xpxe-verify")).args(args.args.clone()).root().exec();
    };
    setup::ensure(ws, Scope::Programs)?;
    let mut versions = versions.clone();
    if versions.is_empty() {
        versions = kernels::USUAL.iter().chain([&kernels::NEWEST]).map(ToString::to_string).collect();
    }
    kernels::install(&ws.kernels(), &versions)?;
    build::release()?;
    let boot = test::root_tests(ws, &Toolchain::ask(ws)?).args(["--test", "firmware_kernels"]);
    boot.env("XPXE_KERNELS", versions.join(" ")).args(["--", "--nocapture"]).exec()
}
