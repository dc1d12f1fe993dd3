//! `cargo xtask fuzz`: arbitrary input, guided by the code that it reaches.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    cmd::Cmd,
    setup::{self, Scope},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// The targets, one process each.
const TARGETS: [&str; 3] = ["respond", "engine", "tftp"];

/// The flags of cargo-fuzz for rustc, without the sanitizers: those need a nightly rustc, and there is next to no unsafe
/// code.
const FLAGS: &str = "--cfg=fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Build the fuzz targets and run them on all cores; failing inputs stay in the target directory.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target runs, in seconds.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Run only this target (may be repeated).
    #[arg(long, value_name = "TARGET", value_parser = TARGETS)]
    only: Vec<String>,
    /// The number of processes; default: one for each core.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Arguments of libFuzzer: a file with an input to run again, -help=1, …
    #[arg(last = true)]
    args: Vec<String>,
}

/// Builds, then runs one target after the other; ends at the first failing input.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Build)?;
    let host = Toolchain::ask(ws)?.host;
    // With --target, so that build scripts and procedural macros are compiled as usual.
    let build = Cmd::line("cargo build --release --manifest-path tests/fuzz/Cargo.toml --target").arg(&host);
    build.arg("--target-dir").arg(ws.target.to_string_lossy()).env("RUSTFLAGS", FLAGS).run()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores);
    for target in
        TARGETS.iter().filter(|target| args.only.is_empty() || args.only.iter().any(|only| only == *target))
    {
        let dir = ws.target.join("fuzz").join(target);
        let [corpus, seeds, found] = ["corpus", "seeds", "found"].map(|name| dir.join(name));
        for dir in [&corpus, &seeds, &found] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let program = ws.target.join(&host).join("release").join(target);
        let mut run = Cmd::line("").arg(program.to_string_lossy()).env("XPXE_SEEDS", seeds.to_string_lossy());
        run = run.arg(format!("-artifact_prefix={}/", found.display()));
        if args.args.iter().all(|arg| arg.starts_with('-')) {
            run = run.arg(format!("-max_total_time={}", args.seconds)).arg("-max_len=4096");
            // libFuzzer says most about a run of one process.
            if jobs > 1 {
                run = run.arg(format!("-fork={jobs}"));
            }
            run = run.args([corpus.to_string_lossy(), seeds.to_string_lossy()]);
        }
        println!("\n== {target}");
        run.args(args.args.clone()).run()?;
    }
    Ok(())
}
