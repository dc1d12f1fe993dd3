//! `cargo xtask test`: every check there is, cheapest first.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    build,
    cmd::{self, Cmd},
    setup::{self, Scope},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// The beginning of the names of tests that boot machines.
const FIRMWARE: &str = "firmware";
/// Its tests wait up to two minutes each, and need hardly any CPU meanwhile.
const PATIENT: &str = "why";

/// Set up, then run every check; stops at the first stage that fails.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only this stage, and the stages that it needs (may be repeated).
    #[arg(long, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Arguments of the test binaries: a part of a test's name, --nocapture, …
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// The stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Stage {
    /// The source is formatted.
    Fmt,
    /// Clippy has no complaints, except for the kernel half.
    Clippy,
    /// Clippy has no complaints about the kernel half.
    ClippyEbpf,
    /// Licences, sources and advisories of the dependencies.
    Deny,
    /// The tests that need neither root nor other programs.
    Unit,
    /// The release build.
    Build,
    /// The tests that need root: namespaces, real clients, the kernel half.
    Root,
    /// The tests that boot real firmware, one at a time.
    Firmware,
}

/// Sets up the programs that the stages need, and runs the stages.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let stages = stages(&args.only);
    let last = |stage| stages.last() == Some(&stage);
    let scope = if last(Stage::Firmware) {
        Scope::Everything
    } else if last(Stage::Root) {
        Scope::RootTests
    } else if stages.contains(&Stage::Deny) {
        Scope::Lints
    } else {
        Scope::Build
    };
    setup::ensure(ws, scope)?;
    run_stages(ws, &stages, &args.filter)
}

/// Runs these stages, on a machine that is set up for them, and shows the time of each.
pub(crate) fn run_stages(ws: &Workspace, stages: &[Stage], filter: &[String]) -> Result<()> {
    let toolchain = Toolchain::ask(ws)?;
    let mut took = Vec::new();
    for stage in stages.iter().copied() {
        println!("\n== {}", name(stage));
        let start = Instant::now();
        let result = stage.run(ws, &toolchain, filter);
        took.push((stage, start.elapsed(), result.is_ok()));
        if result.is_err() {
            print!("{}", table(&took));
        }
        result.with_context(|| format!("stage `{}` failed", name(stage)))?;
    }
    print!("{}", table(&took));
    Ok(())
}

impl Stage {
    fn run(self, ws: &Workspace, toolchain: &Toolchain, filter: &[String]) -> Result<()> {
        let test = |cmd: Cmd| cmd.arg("--").args(filter);
        match self {
            Self::Fmt => Cmd::line("cargo fmt --all --check").run(),
            Self::Clippy => {
                let kernel = "--exclude boot-ebpf --exclude bench-ebpf";
                Cmd::line(&format!("cargo clippy --workspace {kernel} --all-targets -- -D warnings")).run()
            }
            Self::ClippyEbpf => clippy_ebpf(ws, toolchain).run(),
            Self::Deny => deny(),
            Self::Unit => test(Cmd::line(
                "cargo test -p boot-common -p boot-agent -p boot-agent-protocol -p boot-engine -p boot-fixtures -p boot-userspace -p xtask",
            ))
            .run(),
            Self::Build => build::release(),
            Self::Root => {
                // Root tests beside the code they test; ignored there, so that plain `cargo test` needs no root.
                let beside = as_root(Cmd::line("cargo test -p boot-userspace --lib"), toolchain);
                beside
                    .args(["--", "--ignored", "--skip", "throughput", "--skip", "a_full_disk"])
                    .args(filter)
                    .run()?;
                let others = ws.root_tests.iter().filter(|name| !name.starts_with(FIRMWARE));
                let (patient, others): (Vec<_>, Vec<_>) = others.partition(|name| *name == PATIENT);
                let named = |cmd: Cmd, names: &[&String]| {
                    test(cmd.args(names.iter().flat_map(|name| ["--test", name.as_str()])))
                };
                // Most of them wait for timers of clients rather than for a core.
                let cmd = root_tests(ws, toolchain).args(["--lib", "--bins"]);
                named(cmd, &others).arg("--test-threads=3").run()?;
                named(root_tests(ws, toolchain), &patient).arg("--test-threads=8").run()
            }
            Self::Firmware if !ws.root_tests.iter().any(|name| name.starts_with(FIRMWARE)) => {
                bail!(
                    "boot-tests has no test binary `{FIRMWARE}…`; its targets are listed by\n    cargo test -p boot-tests --test"
                )
            }
            Self::Firmware => {
                let machines = ws.root_tests.iter().filter(|name| name.starts_with(FIRMWARE));
                let cmd = root_tests(ws, toolchain).args(machines.flat_map(|name| ["--test", name]));
                test(cmd).arg("--test-threads=1").run()
            }
        }
    }
}

/// All stages, or the wanted ones; the build comes before stages that need the daemon.
fn stages(only: &[Stage]) -> Vec<Stage> {
    let needs_build = only.contains(&Stage::Root) || only.contains(&Stage::Firmware);
    let wanted =
        |stage: &Stage| only.is_empty() || only.contains(stage) || (*stage == Stage::Build && needs_build);
    Stage::value_variants().iter().copied().filter(wanted).collect()
}

/// Tests compiled as the user and run as root; a test without root fails instead of skipping itself.
pub(crate) fn root_tests(ws: &Workspace, toolchain: &Toolchain) -> Cmd {
    let cmd = Cmd::line("cargo test --release -p boot-tests")
        .env("XPXE_REQUIRE_ROOT", "1")
        .env("XPXE_BIN", ws.release("xpxe"));
    as_root(cmd, toolchain)
}

fn as_root(cmd: Cmd, toolchain: &Toolchain) -> Cmd {
    if cmd::is_root() { cmd } else { cmd.env(&toolchain.runner_variable(), "sudo -E") }
}

/// As boot-userspace's build script compiles it, in a target directory of its own: the unstable `-Z` would make
/// cargo rebuild what the stable stages share.
fn clippy_ebpf(ws: &Workspace, toolchain: &Toolchain) -> Cmd {
    let arch = toolchain.host.split('-').next().unwrap_or_default();
    Cmd::line("cargo clippy -p boot-ebpf -p bench-ebpf --bins --target bpfel-unknown-none")
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(ws.target.join("clippy-ebpf").to_string_lossy())
        .args(["--", "-D", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{arch}\" -Cdebuginfo=2 -Clink-arg=--btf"))
}

/// Faults in licences, bans and sources fail the stage. Advisories need a database from the network: if it cannot be
/// reached, they are not checked, and the log says so.
fn deny() -> Result<()> {
    // cargo-deny also looks at crates of other systems, which no build has fetched.
    Cmd::line("cargo fetch --locked").run()?;
    Cmd::line("cargo deny --offline check licenses bans sources").run()?;
    let fetched = Cmd::line("cargo deny fetch db").run();
    if fetched.is_err() {
        println!(
            "deny: warning: the advisory database cannot be reached: known faults of crates were NOT checked"
        );
        return Ok(());
    }
    Cmd::line("cargo deny check advisories").run()
}

fn name(stage: Stage) -> String {
    stage.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
}

fn table(took: &[(Stage, Duration, bool)]) -> String {
    let row = |(stage, time, ok): &(Stage, Duration, bool)| {
        let verdict = if *ok { "ok" } else { "FAILED" };
        format!("{:<12} {:>7.1}  {verdict}\n", name(*stage), time.as_secs_f32())
    };
    let total = took.iter().map(|(_, time, _)| time.as_secs_f32()).sum::<f32>();
    let rows: String = took.iter().map(row).collect();
    format!("\nstage        seconds\n{rows}{:<12} {total:>7.1}\n", "all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_tests_come_after_the_build() {
        assert_eq!(stages(&[]).len(), 8);
        assert_eq!(stages(&[Stage::Unit]), [Stage::Unit]);
        assert_eq!(stages(&[Stage::Root]), [Stage::Build, Stage::Root]);
        assert_eq!(stages(&[Stage::Firmware, Stage::Fmt]), [Stage::Fmt, Stage::Build, Stage::Firmware]);
    }

    #[test]
    fn the_table_has_a_line_per_stage() {
        let took = [(Stage::ClippyEbpf, Duration::from_millis(1500), false)];
        assert!(table(&took).contains("clippy-ebpf      1.5  FAILED\n"), "{}", table(&took));
    }
}
