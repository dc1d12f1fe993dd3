//! xpxe: wires the command line to the library, nothing else.

use std::process::ExitCode;

use boot_userspace::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xpxe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
