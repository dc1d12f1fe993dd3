//! bpf-linker, which makes one BPF object of the LLVM bitcode that rustc writes.

use anyhow::Result;

use crate::{
    cmd::{self, Cmd},
    toolchain::Toolchain,
};

const VERSION: &str = "0.13.0";

pub(super) fn missing(toolchain: &Toolchain) -> Vec<String> {
    let fits = cmd::which("bpf-linker").is_some_and(|path| {
        let version = Cmd::line("bpf-linker --version").probe().unwrap_or_default();
        let libraries = Cmd::line("ldd").arg(path.to_string_lossy()).probe().unwrap_or_default();
        fits(&version, &libraries, toolchain.llvm)
    });
    if fits { vec![] } else { vec![format!("bpf-linker-{VERSION}")] }
}

/// Whether bpf-linker has the pinned version and can read rustc's bitcode: its LLVM must be that of rustc or newer. A
/// bpf-linker without an LLVM library has an LLVM of unknown version inside.
fn fits(version: &str, ldd: &str, llvm: u32) -> bool {
    let linked = ldd.lines().find_map(|line| line.trim().strip_prefix("libLLVM")).map(major);
    version.trim() == format!("bpf-linker {VERSION}") && linked.is_none_or(|linked| linked >= Some(llvm))
}

/// The major version in ".so.22.1 => ..." or, up to LLVM 17, "-17.so.1 => ...".
fn major(library: &str) -> Option<u32> {
    library.split(['.', '-', ' ']).find_map(|part| part.parse().ok())
}

/// With --force, because cargo does not notice a change of the LLVM.
pub(super) fn command(toolchain: &Toolchain) -> Cmd {
    Cmd::line("cargo install bpf-linker --locked --force --no-default-features --version")
        .arg(VERSION)
        .args(["--features".into(), format!("llvm-{}", toolchain.llvm)])
        .env("LLVM_PREFIX", toolchain.llvm_prefix())
}

pub(super) fn install(toolchain: &Toolchain) -> Result<()> {
    command(toolchain).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_with_our_version_and_rustcs_llvm() {
        let ldd = |name: &str| format!("\tlinux-vdso.so.1 (0x7f)\n\t{name} => /usr/lib/{name} (0x7f)\n");
        let ours = "bpf-linker 0.13.0\n";
        assert!(fits(ours, &ldd("libLLVM.so.22.1"), 22));
        assert!(fits(ours, &ldd("libLLVM.so.23.1"), 22));
        assert!(!fits(ours, &ldd("libLLVM.so.21.1"), 22));
        assert!(!fits(ours, &ldd("libLLVM-17.so.1"), 22));
        assert!(fits(ours, &ldd("libc.so.6"), 22));
        assert!(!fits("bpf-linker 0.9.15\n", &ldd("libLLVM.so.22.1"), 22));
        assert!(!fits("", "", 22));
    }
}
