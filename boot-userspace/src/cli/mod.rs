//! The command line: one file per verb.

mod agent;
mod boots;
mod capture;
pub mod check;
pub mod configuration;
mod daemon_api;
pub mod detach;
mod events;
mod explain;
pub mod images;
mod import;
mod lease_files;
pub mod leases;
mod machines;
mod manual;
mod preflight;
mod profiles;
mod reload;
pub mod serve;
mod table;
mod tokens;
mod trial;
mod webhooks;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::host::pipe;

/// The configuration file without `--config`.
pub const CONFIG: &str = "/etc/xpxe/xpxe.toml";

/// A network-boot server for racks: PXE DHCP and TFTP on the network card, scripts, kernels and initrds over HTTP.
#[derive(Debug, Parser)]
#[command(name = "xpxe", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve DHCP, TFTP and HTTP until stopped
    Serve(serve::Serve),
    /// Serve as Sidero Booter does: in its place, with its flags, its environment and its arguments
    ///
    /// Without flags: a proxy beside the DHCP server on the interface of the default route, HTTP on port 50084, and the latest
    /// stable Talos of the image factory with the arguments that are given. No configuration file is read unless --config
    /// names one.
    Booter(serve::Serve),
    /// Check a configuration file and its boot files; names every problem at once, with key and line
    ///
    /// Examines the iPXE binaries of [ipxe], boot_dir and the system, the files in boot_dir that profiles, boot_file
    /// rules and machines name, and up to 200 other files in boot_dir that have the name of a boot file.
    ///
    /// The exit status is 1 if the configuration, a file that it names, or a file that machines get from boot_dir by
    /// default is wrong. Another boot file that is missing or wrong is a warning, and the exit status is 0.
    Check(check::Check),
    /// Show what a machine gets, and which line of the configuration decides it
    ///
    /// Address, boot file for each kind of firmware, script, kernel, initrds and each argument, as the files are now (a
    /// running daemon has them since its start or last reload), and the machine's leases if a daemon is running.
    Explain(explain::Explain),
    /// Say why a machine did not boot: the cause, the evidence, what its console shows, and what to do
    Why(why::Why),
    /// Show what happened to machines that booted, step by step
    Boots(boots::Boots),
    /// Show events as they come
    Events(events::Events),
    /// Record one machine's next boot as a pcapng file, with its steps as comments
    ///
    /// The kernel half leaves the machine to the daemon meanwhile: an answer that the network card gives is seen by nobody. It
    /// ends when the machine has booted or has failed to, after --seconds, or with --mib.
    Capture(capture::Capture),
    /// Let the running daemon read its configuration anew; prints what that changes
    ///
    /// Machines under way are not disturbed. What needs a restart is named and stays as it is. If anything is wrong with
    /// the configuration, every problem is named, nothing changes, and the command exits with 1.
    Reload(reload::Reload),
    /// Remove xpxe's programs, links and tables from the kernel
    Detach(detach::Detach),
    /// Show, delete and import leases
    Leases(leases::Leases),
    /// Show, add, change and order machines: accept, ignore, allocate, release, wipe, reinstall
    Machines(Box<machines::Machines>),
    /// List and show profiles, with what they inherit and how many machines have them
    Profiles(profiles::Profiles),
    /// Make, list and revoke the tokens of the API and the dashboard ([api] in the configuration)
    Tokens(tokens::Tokens),
    /// List webhooks ([[webhook]] in the configuration); retry or drop deliveries that were given up
    Webhooks(webhooks::Webhooks),
    /// Make the initrd of the agent that takes inventories, wipes disks and writes images
    Agent(agent::Agent),
    /// Say how many machines there are in which state
    Status(machines::Status),
    /// Keeps kernels and initrds of upstreams here, verified
    ///
    /// A profile boots one by kernel = "image:NAME". The daemon need not run, and may: both work on the same store.
    Images(images::Images),
    /// Turn the configuration of another server into one of xpxe's, and list what is not carried over
    ///
    /// The result is one that xpxe check accepts. Statements that have no place in it are named on standard error with file
    /// and line, and in comments at the end of the result. Leases are imported by xpxe leases import.
    Import(import::Import),
    /// Ask as machines do, and say what each kind of them would get from the servers that there are
    ///
    /// Sends DISCOVERs as BIOS, UEFI x86-64, UEFI arm64, HTTP Boot and iPXE, shows every server's offer, fetches boot file,
    /// script, kernel and initrds, and says in plain words where each kind of machine would stop. It requests no address.
    ///
    /// The exit status is 1 if a kind for which there is a boot file does not boot, or none boots.
    Preflight(Box<preflight::Preflight>),
    /// Print what a shell needs to complete xpxe's words
    ///
    /// For bash: xpxe completions bash >/etc/bash_completion.d/xpxe
    Completions(manual::Completions),
    /// Write the manual pages, one for each verb
    Man(manual::Man),
}

/// `--config FILE`
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn run(self) -> Result<ExitCode> {
        if !matches!(self.verb, Verb::Serve(_) | Verb::Booter(_)) {
            pipe::end_quietly();
        }
        match self.verb {
            Verb::Serve(serve) => serve.run(),
            Verb::Booter(serve) => serve.in_place_of_booter().run(),
            Verb::Check(check) => Ok(check.run()),
            Verb::Explain(explain) => explain.run(),
            Verb::Why(why) => why.run(),
            Verb::Boots(boots) => boots.run(),
            Verb::Events(events) => events.run(),
            Verb::Capture(capture) => capture.run(),
            Verb::Reload(reload) => reload.run(),
            Verb::Detach(detach) => detach.run(),
            Verb::Leases(leases) => leases.run(),
            Verb::Machines(machines) => machines.run(),
            Verb::Profiles(profiles) => profiles.run(),
            Verb::Tokens(tokens) => tokens.run(),
            Verb::Webhooks(webhooks) => webhooks.run(),
            Verb::Agent(agent) => agent.run(),
            Verb::Status(status) => status.run(),
            Verb::Images(images) => images.run(),
            Verb::Import(import) => import.run(),
            Verb::Preflight(preflight) => preflight.run(),
            Verb::Completions(completions) => completions.run(),
            Verb::Man(man) => man.run(),
        }
    }
}
