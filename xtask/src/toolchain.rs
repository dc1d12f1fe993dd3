//! The pinned Rust toolchain.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{cmd::Cmd, workspace::Workspace};

/// The facts from `rustc -vV` and `rust-toolchain.toml`.
#[derive(Debug, PartialEq)]
pub(crate) struct Toolchain {
    pub(crate) channel: String,
    pub(crate) host: String,
    /// The major version of rustc's LLVM: bpf-linker must be able to read rustc's bitcode.
    pub(crate) llvm: u32,
}

impl Toolchain {
    /// Asks the rustc that cargo uses in this workspace.
    pub(crate) fn ask(ws: &Workspace) -> Result<Self> {
        let file = ws.root.join("rust-toolchain.toml");
        let pin = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let rustc = Cmd::line("rustc -vV").read()?;
        Self::parse(&pin, &rustc).with_context(|| format!("in {} and `rustc -vV`:\n{rustc}", file.display()))
    }

    fn parse(pin: &str, rustc: &str) -> Result<Self> {
        let channel = value(pin, "channel", '=').context("no channel")?.trim_matches('"').into();
        let host = value(rustc, "host", ':').context("no host")?.into();
        let llvm = value(rustc, "LLVM version", ':').context("no LLVM version")?;
        let llvm = llvm.split('.').next().unwrap_or(llvm).parse().context("LLVM's major version")?;
        Ok(Self { channel, host, llvm })
    }

    /// The directory of LLVM's Debian packages.
    pub(crate) fn llvm_prefix(&self) -> String {
        format!("/usr/lib/llvm-{}", self.llvm)
    }

    /// The lock file of the standard library's source: it exists if rust-src is installed.
    pub(crate) fn rust_src() -> Result<PathBuf> {
        Ok(Self::sysroot()?.join("lib/rustlib/src/rust/library/Cargo.lock"))
    }

    /// Where the toolchain is installed.
    pub(crate) fn sysroot() -> Result<PathBuf> {
        Ok(PathBuf::from(Cmd::line("rustc --print sysroot").read()?.trim()))
    }

    /// The variable by which cargo starts this host's test binaries through another program.
    pub(crate) fn runner_variable(&self) -> String {
        format!("CARGO_TARGET_{}_RUNNER", self.host.to_uppercase().replace(['-', '.'], "_"))
    }
}

fn value<'a>(text: &'a str, key: &str, sign: char) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(sign))
        .find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "[toolchain]\nchannel = \"1.95.0\"\ncomponents = [\"rust-src\"]\n";
    const RUSTC: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                         host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn reads_the_pin_and_rustc() {
        let found = Toolchain::parse(PIN, RUSTC).unwrap();
        let host = "x86_64-unknown-linux-gnu".into();
        assert_eq!(found, Toolchain { channel: "1.95.0".into(), host, llvm: 22 });
        assert_eq!(found.llvm_prefix(), "/usr/lib/llvm-22");
        assert_eq!(found.runner_variable(), "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER");
    }

    #[test]
    fn says_what_is_not_there() {
        let error = Toolchain::parse(PIN, "host: x\nLLVM version: new\n").unwrap_err();
        assert_eq!(error.to_string(), "LLVM's major version");
        assert!(Toolchain::parse("", RUSTC).is_err());
        assert!(Toolchain::parse(PIN, "host: x\n").is_err());
    }
}
