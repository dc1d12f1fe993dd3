//! From the kernel's hand to the machine's end.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use boot_agent_protocol::{Disk, Progress, Task, Then, Wipe};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::command_line::CommandLine;
use crate::console::say;
use crate::disk;
use crate::image;
use crate::inventory;
use crate::lldp::Heard;
use crate::modules::{self, Modules};
use crate::network;
use crate::server::{Server, hidden};
use crate::wipe::wipe;

/// What is on the console after a failure stays there for so long.
const SHOWN: Duration = Duration::from_secs(30);
/// How often the server hears how far it is.
const TELL: Duration = Duration::from_secs(5);
/// How often an image is fetched that did not arrive.
const TRIES: u32 = 3;
/// So long switches are listened to before the inventory is taken.
const LISTEN: Duration = Duration::from_secs(3);

/// Does what the server says, and ends the machine.
pub fn run() -> ! {
    let then = match live() {
        Ok(then) => then,
        Err(error) => {
            say!("{error:#}");
            say!("the machine restarts in {} s", SHOWN.as_secs());
            sleep(SHOWN);
            Then::Reboot
        }
    };
    end(then)
}

fn live() -> Result<Then> {
    mount_all();
    say!("version {}", env!("CARGO_PKG_VERSION"));
    let told = fs::read_to_string("/proc/cmdline").context("read the kernel's command line")?;
    let told = CommandLine::read(&told);
    let url = told.url.as_ref().with_context(|| {
        format!(
            "the kernel's command line has no {}URL: write {0}{{{{ agent }}}} into args of the profile",
            boot_agent_protocol::KEY
        )
    })?;
    let server = Server::at(url, told.key.as_deref())?;
    say!("server: {}", hidden(url));
    Modules::read(&modules::directory()).load_for_devices();
    network::start(&told)?;
    let heard = Heard::listen();
    sleep(LISTEN);
    let inventory = inventory::take(&heard);
    for disk in &inventory.disks {
        say!("disk {}: {} {}, {} bytes", disk.name, disk.model, disk.serial, disk.size);
    }
    server.send_inventory(&inventory)?;
    say!("inventory: sent");
    work(&server, &inventory.disks)
}

/// One task after the other, until one says how the machine ends.
fn work(server: &Server, disks: &[Disk]) -> Result<Then> {
    let mut shown = String::new();
    loop {
        match server.task()? {
            Task::Wait { seconds, why } => {
                if why != shown {
                    say!("waiting: {why}");
                    shown = why;
                }
                sleep(Duration::from_secs(u64::from(seconds.clamp(1, 3600))));
            }
            Task::End { then, why } => {
                say!("{why}");
                return Ok(then);
            }
            Task::Wipe { method, then } => {
                return report(server, "wipe", wipe_all(server, disks, method), then);
            }
            Task::Write { url, sha256, disk, then } => {
                let written = write(server, disks, &url, &sha256, disk.as_deref());
                return report(server, "write", written, then);
            }
        }
    }
}

fn report(server: &Server, task: &str, end: Result<String>, then: Then) -> Result<Then> {
    match &end {
        Ok(text) => say!("{task}: {text}"),
        Err(error) => say!("{task} has failed: {error:#}"),
    }
    server.report(task, &end)?;
    say!("{task}: reported");
    // Who has failed waits on its console with the reason, from the network.
    if end.is_err() {
        sleep(SHOWN);
        return Ok(Then::Reboot);
    }
    Ok(then)
}

/// Wipes all disks at once.
fn wipe_all(server: &Server, disks: &[Disk], method: Wipe) -> Result<String> {
    let idle = disk::controllers_without_driver(Path::new("/sys"));
    if !idle.is_empty() {
        bail!(
            "the disks behind {} cannot be seen, because the initrd has no driver for it: build it of another kernel",
            idle.join(", ")
        );
    }
    if disks.is_empty() {
        return Ok("the machine has no fixed disk".to_owned());
    }
    let all = disks.iter().map(|disk| disk.size).sum();
    let (done, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    scope(|scope| {
        let (ended, wait) = mpsc::channel::<()>();
        for disk in disks {
            let (ended, done, failed) = (ended.clone(), &done, &failed);
            scope.spawn(move || {
                say!("wipe: {} ({}) begins", disk.name, disk.serial);
                let mut tell = |bytes| {
                    done.fetch_add(bytes, Ordering::Relaxed);
                };
                match wipe(disk, method, &mut tell) {
                    Ok(()) => say!("wipe: {} ({}) reads as zeros", disk.name, disk.serial),
                    Err(error) => {
                        let text = format!("{} ({}): {error:#}", disk.name, disk.serial);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    }
                }
                drop(ended);
            });
        }
        drop(ended);
        while wait.recv_timeout(TELL) == Err(RecvTimeoutError::Timeout) {
            tell(server, "wiping", done.load(Ordering::Relaxed), all);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("not all disks were wiped: {}", failed.join("; "));
    }
    Ok(format!("wiped {} disks with {all} bytes", disks.len()))
}

fn tell(server: &Server, what: &str, done: u64, of: u64) {
    let progress = Progress { text: what.to_owned(), done, of };
    say!("{what}: {} % of {of} bytes", progress.percent().unwrap_or(0));
    server.tell(&progress);
}

fn write(server: &Server, disks: &[Disk], url: &str, sha256: &str, wanted: Option<&str>) -> Result<String> {
    let disk = disk::choose(disks, wanted)?;
    let path = Path::new("/dev").join(&disk.name);
    let mut tries = 0;
    loop {
        tries += 1;
        say!("write: {} to {} ({})", hidden(url), disk.name, disk.serial);
        let written = write_once(server, url, sha256, &path);
        match written {
            Ok(bytes) => return Ok(format!("wrote {bytes} bytes to {} ({})", disk.name, disk.serial)),
            Err(error) if tries < TRIES => say!("write: try {tries} of {TRIES}: {error:#}"),
            Err(error) => return Err(error),
        }
    }
}

fn write_once(server: &Server, url: &str, sha256: &str, path: &Path) -> Result<u64> {
    let (stream, length) = server.fetch(url)?;
    let done = AtomicU64::new(0);
    scope(|scope| {
        let (ended, wait) = mpsc::channel::<()>();
        let done = &done;
        scope.spawn(move || {
            while wait.recv_timeout(TELL) == Err(RecvTimeoutError::Timeout) {
                tell(server, "writing the image", done.load(Ordering::Relaxed), length);
            }
        });
        let mut count = |bytes| {
            done.fetch_add(bytes, Ordering::Relaxed);
        };
        let written = image::write(stream, length, sha256, path, &mut count);
        drop(ended);
        written
    })
}

/// What an initrd begins without.
fn mount_all() {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(at).ok();
        if let Err(error) = mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>) {
            say!("{kind} cannot be mounted on {at}: {error}");
        }
    }
    // The kernel's own lines would end in the middle of these.
    fs::write("/proc/sys/kernel/printk", "3").ok();
}

/// Ends the machine.
fn end(then: Then) -> ! {
    nix::unistd::sync();
    let mode = match then {
        Then::Reboot => RebootMode::RB_AUTOBOOT,
        Then::PowerOff => RebootMode::RB_POWER_OFF,
    };
    say!("the machine {}", if then == Then::Reboot { "restarts" } else { "is switched off" });
    let Err(error) = reboot(mode);
    say!("that cannot be done: {error}");
    loop {
        sleep(SHOWN);
    }
}
