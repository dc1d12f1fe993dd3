//! `cargo xtask VERB`: everything a developer or CI does with this workspace. One file per verb.

mod bench;
mod build;
mod check;
mod cmd;
mod demo;
mod fuzz;
mod setup;
mod test;
mod toolchain;
mod verify;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::workspace::Workspace;

/// Setting up, building, showing and testing xpxe.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    Setup(setup::Args),
    /// Install the build dependencies and build the release binaries
    Build,
    Check(check::Args),
    Demo(demo::Args),
    Test(test::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
}

/// The last line of an error is a command to run by hand: nothing may follow it, not even a backtrace.
fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let ws = Workspace::enter()?;
    match verb {
        Verb::Setup(args) => setup::run(&ws, &args),
        Verb::Build => build::run(&ws),
        Verb::Check(args) => check::run(&ws, &args),
        Verb::Demo(args) => demo::run(&ws, &args),
        Verb::Test(args) => test::run(&ws, &args),
        Verb::Verify(args) => verify::run(&ws, &args),
        Verb::Bench(args) => bench::run(&ws, &args),
        Verb::Fuzz(args) => fuzz::run(&ws, &args),
    }
}
