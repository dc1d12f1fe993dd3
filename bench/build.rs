//! Compiles the clients that run in the kernel.

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-env-changed=RUSTUP_TOOLCHAIN");
    // The BPF target's core library has to be built from source, which stable cargo allows only so. What the nested cargo
    // writes becomes warnings of this build: quiet, it writes errors only.
    #[expect(unsafe_code, reason = "set_var is unsafe where other threads might read the environment")]
    // SAFETY: a build script has one thread at this point.
    unsafe {
        std::env::set_var("RUSTC_BOOTSTRAP", "1");
        std::env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf");
    let package = Package { name: "bench-ebpf", root_dir: root, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).context(
        "the clients were not built: `cargo xtask setup` installs what that needs (bpf-linker, rust-src)",
    )
}
