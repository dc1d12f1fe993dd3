//! Compiles the kernel half for BPF, so that the daemon can embed it.

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../boot-common/src");
    println!("cargo:rerun-if-env-changed=RUSTUP_TOOLCHAIN");
    println!("cargo:rerun-if-changed=migrations");
    // The BPF target's core library has to be built from source, which stable cargo allows only so. What the nested cargo
    // writes becomes warnings of this build: quiet, it writes errors only.
    #[expect(unsafe_code, reason = "set_var is unsafe where other threads might read the environment")]
    // SAFETY: a build script has one thread at this point.
    unsafe {
        std::env::set_var("RUSTC_BOOTSTRAP", "1");
        std::env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot-ebpf");
    let package = Package { name: "boot-ebpf", root_dir: root, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).context(
        "the kernel half was not built: `cargo xtask setup` installs what it needs (bpf-linker, rust-src)",
    )
}
