//! The servers, with the settings an operator would write.
//!
//! xpxe logs at its default level to nowhere; nginx logs no requests at all. nginx's script is a file, of the same length
//! as the one that xpxe writes for each machine.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_bench::cable::SERVER_INTERFACE;
use boot_bench::frame::{address, mac_text};
use boot_bench::group::Group;
use boot_bench::meter::Meter;
use boot_bench::place::Place;
use boot_tests::netns::Namespace;

use super::lane::{HTTP, pinned};
use super::load::verify;
use crate::peers::complaint;

const START: Duration = Duration::from_secs(30);

/// The file that is fetched.
pub(crate) const FILE: &str = "/files/image";
/// The script that is fetched.
pub(crate) const SCRIPT: &str = "/ipxe/boot.ipxe?mac=02-00-00-00-00-01";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// xpxe
    Xpxe,
    /// nginx
    Nginx,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xpxe => "xpxe",
            Self::Nginx => "nginx",
        }
    }

    /// Where it is.
    pub(crate) fn program(self) -> Result<PathBuf> {
        Ok(match self {
            Self::Xpxe => boot_tests::daemon::binary()?,
            Self::Nginx => {
                std::env::var_os("XPXE_NGINX").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
            }
        })
    }

    /// What it calls itself; none when it is not here.
    pub(crate) fn version(self) -> Result<Option<String>> {
        let flag = if self == Self::Nginx { "-v" } else { "--version" };
        let output = match Command::new(self.program()?).arg(flag).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            output => output.with_context(|| format!("ask {} for its version", self.name()))?,
        };
        let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        Ok(String::from_utf8_lossy(said).lines().next().map(str::to_owned))
    }

    /// How to have it.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Xpxe => "`cargo xtask build` makes it",
            Self::Nginx => "`cargo xtask setup` fetches it from Debian; XPXE_NGINX names another one",
        }
    }
}

/// What of xpxe is asked beside HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing
    HttpOnly,
    /// DHCP and TFTP on [`SERVER_INTERFACE`]
    Everything {
        /// `auto` or `off`
        fast_path: &'static str,
        /// Machines with an address of their own
        machines: u32,
    },
}

/// A server that answers; killed when dropped.
pub(crate) struct Server {
    child: Child,
    group: Group,
}

impl Server {
    /// Starts a server of a file and waits for its first answers to the clients, which are compared.
    pub(crate) fn start(
        kind: Kind,
        (server, clients): (&Namespace, &Namespace),
        place: &Place,
        content: &[u8],
        role: Role,
    ) -> Result<Self> {
        let files = place.dir.join("files");
        fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        fs::write(files.join("image"), content)?;
        // As in xpxe's systemd unit: its HTTP threads have the niceness that nginx has.
        let niceness = if kind == Kind::Xpxe { -5 } else { 0 };
        let mut command = pinned(server, niceness, &kind.program()?.display().to_string());
        match kind {
            Kind::Xpxe => xpxe(&mut command, place, &files, role)?,
            Kind::Nginx => nginx(&mut command, place, &files)?,
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::new(&place.dir.join("cgroup"))?;
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", kind.name()))?;
        let mut running = Self { child, group };
        running.group.add(running.child.id())?;
        let answers = || verify(FILE, Some(content)).and_then(|()| verify(SCRIPT, None));
        while let Err(error) = clients.run(answers)? {
            if let Some(status) = running.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", kind.name(), complaint(&mut command));
            }
            if started.elapsed() > START {
                return Err(error.context(format!("{}: no answer within {START:?}", kind.name())));
            }
        }
        Ok(running)
    }

    /// Measures it with all that it started.
    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::of_group(self.child.id(), &self.group)
    }

    /// Bytes of its processes' memory, shared pages by halves.
    pub(crate) fn memory(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.group.processes()? {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
            bytes += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
        }
        Ok(bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn xpxe(command: &mut Command, place: &Place, files: &Path, role: Role) -> Result<()> {
    let mut config = format!(
        "state_dir = {state:?}\n\
         boot_dir = {files:?}\n\
         pin_dir = {pins:?}\n\
         [http]\n\
         listen = \"0.0.0.0:{port}\"\n\
         threads = 1\n\
         connections_per_address = 4096\n\
         [[profile]]\n\
         name = \"bench\"\n\
         kernel = \"image\"\n\
         initrd = [\"image\"]\n\
         args = \"console=ttyS0 ip=dhcp\"\n\
         [default]\n\
         profile = \"bench\"\n",
        state = place.dir.join("state"),
        pins = place.pins,
        port = HTTP.port(),
    );
    match role {
        Role::HttpOnly => {
            config += "[[interface]]\nname = \"http0\"\ndhcp = \"off\"\nfast_path = \"off\"\n";
        }
        Role::Everything { fast_path, machines } => {
            write!(
                config,
                "[[interface]]\n\
                 name = \"{SERVER_INTERFACE}\"\n\
                 dhcp = \"server\"\n\
                 fast_path = \"{fast_path}\"\n\
                 [[subnet]]\n\
                 cidr = \"10.0.0.0/8\"\n\
                 lease = \"10m\"\n"
            )?;
            for machine in 0..machines {
                let (mac, ip) = (mac_text(machine), address(machine));
                write!(config, "[[machine]]\nmac = \"{mac}\"\nname = \"node{machine}\"\nip = \"{ip}\"\n")?;
            }
        }
    }
    let file = place.dir.join("xpxe.toml");
    fs::write(&file, config)?;
    command.args(["serve", "--config"]).arg(file);
    Ok(())
}

/// One worker, sendfile, headers and file together, file facts from a cache, every connection accepted at once, no log.
pub(crate) fn nginx(command: &mut Command, place: &Place, files: &Path) -> Result<()> {
    let dir = &place.dir;
    // About as long as the one of xpxe's profile above.
    let line = format!("kernel http://{HTTP}{FILE} initrd=image console=ttyS0 ip=dhcp\n");
    fs::write(files.join("boot.ipxe"), format!("#!ipxe\n{line}initrd http://{HTTP}{FILE}\nboot\n"))?;
    let config = format!(
        "daemon off;\n\
         user root;\n\
         pid {dir}/nginx.pid;\n\
         error_log /dev/null crit;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile 65536;\n\
         events {{ worker_connections 8192; use epoll; multi_accept on; }}\n\
         http {{\n\
         access_log off;\n\
         server_tokens off;\n\
         sendfile on;\n\
         tcp_nopush on;\n\
         tcp_nodelay on;\n\
         keepalive_requests 100000000;\n\
         open_file_cache max=1000 inactive=60s;\n\
         open_file_cache_valid 60s;\n\
         client_body_temp_path {dir}/t1;\n\
         proxy_temp_path {dir}/t2;\n\
         fastcgi_temp_path {dir}/t3;\n\
         uwsgi_temp_path {dir}/t4;\n\
         scgi_temp_path {dir}/t5;\n\
         server {{\n\
         listen {HTTP} backlog=4096;\n\
         location /files/ {{ alias {files}/; }}\n\
         location = /ipxe/boot.ipxe {{ alias {files}/boot.ipxe; default_type text/plain; }}\n\
         }}\n\
         }}\n",
        dir = dir.display(),
        files = files.display(),
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    command.arg("-p").arg(dir).arg("-c").arg(file);
    Ok(())
}
