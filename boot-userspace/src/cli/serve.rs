//! `xpxe serve`: the flags, and the settings from the flags and the file.

mod booter;
mod factory;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{ArgAction, ValueEnum};
use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::Builder;
use tracing::info;

use booter::Booter;

use crate::cli::{configuration, trial};
use crate::daemon::log::{self, LogFormat};
use crate::daemon::serve;
use crate::files::BootFiles;
use crate::host::{core, descriptors, precedence};
use boot_engine::config::{Config, DhcpRole, FastPath as Hook, Interface, Profile};

/// The flags of `xpxe serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The configuration file [default: /etc/xpxe/xpxe.toml; not read if it is missing and --interface is given]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this interface, not those of the configuration file (may be repeated)
    #[arg(long = "interface", value_name = "IF")]
    interfaces: Vec<String>,
    /// The role in DHCP on all interfaces, whatever the file says [default: as in the file; for an interface that the
    /// file does not name: server; without a file, or named by a flag of Sidero Booter: proxy]
    #[arg(long, value_enum)]
    dhcp: Option<Role>,
    /// The kernel that machines without a profile boot
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// An initrd for --kernel (may be repeated)
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Vec<PathBuf>,
    /// The same as --dhcp off; also by DISABLE_DHCP_PROXY=true in the environment
    #[arg(long, conflicts_with = "dhcp", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = ArgAction::Set, hide_default_value = true)]
    disable_dhcp_proxy: bool,
    /// The format of log lines
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Also log the messages of the programs in the kernel (for developers)
    #[arg(long)]
    kernel_log: bool,
    #[command(flatten)]
    booter: Booter,
    /// Kernel arguments, behind `--` if one begins with a dash: for --kernel; without it, appended to the args of every
    /// profile
    #[arg(value_name = "KERNEL ARGS")]
    args: Vec<String>,
    /// What the image factory has said at the start: a reload boots the same.
    #[arg(skip)]
    of_factory: OnceLock<Profile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Addresses and boot files
    Server,
    /// Boot files beside another DHCP server
    Proxy,
    /// No DHCP
    Off,
}

impl Serve {
    /// The same in the place of Sidero Booter.
    pub(super) fn in_place_of_booter(mut self) -> Self {
        self.booter.stand_in();
        self
    }

    pub(super) fn run(self) -> Result<ExitCode> {
        let (limit, _writes_what_waits) = log::start(self.log_format, self.booter.is_verbose());
        core::forbid();
        descriptors::raise_limit();
        let kernel_log = self.kernel_log;
        let (config, files) = self.settings()?;
        match self.booter.kernel_args(&self.args) {
            // Not which: they may have tokens.
            (args, from) if !args.is_empty() => {
                info!("{} kernel arguments from {from}", args.split_whitespace().count());
            }
            _ => {}
        }
        let niceness = getpriority_process(None).unwrap_or(0);
        // HTTP has threads of its own: a download must never delay a DHCP answer or a TFTP block.
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let delivery = Builder::new_multi_thread()
            .worker_threads(config.http.threads.unwrap_or_else(cores))
            .thread_name("xpxe-http")
            // By default a worker looks for new connections and requests after 61 turns: with a turn of 128 KiB each
            // that is long.
            .event_interval(8)
            .on_thread_start(move || have_niceness((niceness + 5).min(19)))
            .enable_all()
            .build()?;
        let packets = Builder::new_current_thread()
            // They open files and read blocks for TFTP.
            .on_thread_start(move || have_niceness(niceness))
            .on_thread_park(precedence::falls_asleep)
            .on_thread_unpark(precedence::wakes)
            .enable_all()
            .build()?;
        let load = Box::new(move || {
            if let Some(path) = self.file() {
                trial::run(path)?;
            }
            self.settings().map(|(config, _)| config)
        });
        let ended = packets.block_on(serve(config, files, kernel_log, limit, delivery.handle(), load));
        // Running downloads end with the process, and each has a line; so does what waits for a disk that hangs: it would keep the
        // directories locked.
        delivery.shutdown_timeout(LINES_WITHIN);
        packets.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }

    /// The configuration file, if there is one or has to be.
    fn file(&self) -> Option<&Path> {
        let default = Path::new(super::CONFIG);
        if self.booter.is_stand_in() {
            return self.config.as_deref();
        }
        let is_needed = self.interfaces.is_empty() && !self.booter.names_interface();
        self.config.as_deref().or_else(|| (is_needed || default.exists()).then_some(default))
    }

    /// The file's settings, changed by the flags.
    fn settings(&self) -> Result<(Config, BootFiles)> {
        let mut interfaces = self.interfaces.clone();
        let path = self.file();
        let is_named = !interfaces.is_empty() || path.is_some();
        interfaces.extend(self.booter.interface(is_named)?);
        let mut config = match path {
            Some(path) => configuration::load(path)?,
            None => Config::empty(),
        };
        let exposed = configuration::exposed(&config, path);
        if !exposed.is_empty() {
            bail!("{}", exposed.join("\n"));
        }
        let role = match self.dhcp {
            _ if self.disable_dhcp_proxy => Some(DhcpRole::Off),
            None if booter::is_proxy_disabled()? => Some(DhcpRole::Off),
            Some(Role::Server) => Some(DhcpRole::Server),
            Some(Role::Proxy) => Some(DhcpRole::Proxy),
            Some(Role::Off) => Some(DhcpRole::Off),
            None => None,
        };
        if !interfaces.is_empty() {
            // Sidero Booter gives no addresses, so the interface of its flags is not one that does.
            let is_server = path.is_some() && !self.booter.names_interface();
            let fallback = role.unwrap_or(if is_server { DhcpRole::Server } else { DhcpRole::Proxy });
            let known = std::mem::take(&mut config.interfaces);
            config.interfaces = interfaces
                .iter()
                .map(|name| {
                    known.iter().find(|interface| &interface.name == name).cloned().unwrap_or_else(|| {
                        Interface {
                            name: name.clone(),
                            dhcp: fallback,
                            fast_path: Hook::Auto,
                            router_advertisement: true,
                        }
                    })
                })
                .collect();
        }
        if let Some(role) = role {
            config.interfaces.iter_mut().for_each(|interface| interface.dhcp = role);
        }
        if config.subnets.is_empty()
            && config.interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server)
        {
            bail!(
                "dhcp = \"server\" needs at least one [[subnet]] to give addresses from: write a configuration file and name it with --config, or use --dhcp proxy beside another DHCP server"
            );
        }
        self.booter.apply(&mut config);
        let (args, _) = self.booter.kernel_args(&self.args);
        let mut files = BootFiles::configured(&config);
        if let Some(kernel) = &self.kernel {
            let mut name = |path: &Path| -> Result<String> {
                let file = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .ok_or_else(|| anyhow!("{} is not a file", path.display()))?;
                if !path.is_file() {
                    bail!("{} is not a file: name the kernel and initrd to boot", path.display());
                }
                files.put(file, path.to_path_buf());
                Ok(file.to_owned())
            };
            let kernel = name(kernel)?;
            let initrd = self.initrd.iter().map(|path| name(path)).collect::<Result<Vec<_>>>()?;
            let profile = Profile { kernel, initrd, args, ..Profile::default() };
            config.profiles.insert(COMMAND_LINE.to_owned(), profile);
            config.default.profile = Some(COMMAND_LINE.to_owned());
        } else if self.booter.boots_from_factory(path.is_some()) {
            let profile = match self.of_factory.get() {
                Some(profile) => profile.clone(),
                None => {
                    let profile = self.booter.factory.profile(&args, &config.state_dir)?;
                    self.of_factory.get_or_init(|| profile).clone()
                }
            };
            config.profiles.insert(COMMAND_LINE.to_owned(), profile);
            config.default.profile = Some(COMMAND_LINE.to_owned());
        } else if !args.is_empty() {
            for profile in config.profiles.values_mut() {
                profile.args = format!("{} {args}", profile.args).trim().to_owned();
            }
        }
        // The flags name kernels, too.
        files.follow(&config);
        Ok((config, files))
    }
}

/// Gives this thread a niceness. It is not relative: a thread begins with that of the one that starts it, or with 0.
/// HTTP's is higher than that of DHCP and TFTP: where both want the same core, a packet is answered before a download goes
/// on.
fn have_niceness(niceness: i32) {
    if let Err(error) = setpriority_process(None, niceness) {
        tracing::debug!(%error, "a thread has another priority than it should");
    }
}

/// How long the lines of downloads may take that end with the process.
const LINES_WITHIN: Duration = Duration::from_millis(500);

/// The name of the profile that the flags make.
const COMMAND_LINE: &str = "command-line";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn what_is_not_for_everybody_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("xpxe.toml");
        let settings = |boot_dir: &Path| {
            let text = format!("boot_dir = {boot_dir:?}\n[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n");
            std::fs::write(&file, text).unwrap();
            let Verb::Serve(serve) =
                Cli::parse_from([Path::new("xpxe"), Path::new("serve"), Path::new("--config"), &file]).verb
            else {
                panic!("another verb")
            };
            serve.settings().map(drop)
        };
        settings(&dir.path().join("boot")).unwrap();
        let said = settings(dir.path()).unwrap_err().to_string();
        assert!(said.contains("has the configuration in it") && said.contains("everybody"), "{said}");
    }
}
