//! A common boot server: dnsmasq for DHCP and TFTP, busybox for HTTP, with the settings an operator would
//! write.
//!
//! It runs in the same place as xpxe (the rack's server namespace, same address, same files), so times can
//! be compared. No tricks in either direction: iPXE gets its script by HTTP, BIOS and EFI firmware get iPXE
//! by TFTP, EFI HTTP Boot gets iPXE by HTTP.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest;
use crate::netns::{Line, Namespace, Process};
use crate::rack::{Rack, SERVER_ADDRESS};

const HTTP_PORT: u16 = 8080;
const START: Duration = Duration::from_secs(10);
const IPXE_DIR: &str = "/usr/lib/ipxe";

/// dnsmasq and an HTTP server, serving the guest.
#[derive(Debug)]
pub struct Reference {
    dnsmasq: Process,
    http: Process,
}

impl Reference {
    /// Starts both in the rack's server namespace; every machine boots the guest with `kernel_args`.
    pub fn start(rack: &Rack, kernel_args: &str) -> Result<Self> {
        let root = rack.dir().join("reference");
        fs::create_dir_all(&root)?;
        guest::install(&root)?;
        for file in ["snponly.efi", "undionly.kpxe"] {
            let source = Path::new(IPXE_DIR).join(file);
            fs::copy(&source, root.join(file)).with_context(|| format!("copy {}", source.display()))?;
        }
        fs::write(root.join("boot.ipxe"), boot_script(kernel_args))?;
        let http = serve_http(&rack.server, &root)?;
        let config = format!(
            "interface=eth0\n\
             dhcp-range=10.77.0.100,10.77.0.199,10m\n\
             enable-tftp\n\
             tftp-root={root}\n\
             dhcp-match=set:ipxe,175\n\
             dhcp-match=set:efi64,option:client-arch,7\n\
             dhcp-match=set:http64,option:client-arch,16\n\
             dhcp-boot=tag:!ipxe,tag:!efi64,tag:!http64,undionly.kpxe\n\
             dhcp-boot=tag:!ipxe,tag:efi64,snponly.efi\n\
             dhcp-boot=tag:!ipxe,tag:http64,http://{SERVER_ADDRESS}:{HTTP_PORT}/snponly.efi\n\
             dhcp-option-force=tag:!ipxe,tag:http64,option:vendor-class,HTTPClient\n\
             dhcp-boot=tag:ipxe,http://{SERVER_ADDRESS}:{HTTP_PORT}/boot.ipxe\n",
            root = root.display(),
        );
        let dnsmasq = dnsmasq(&rack.server, rack.dir(), &config)?;
        Ok(Self { dnsmasq, http })
    }

    /// dnsmasq's log.
    pub fn dnsmasq_log(&self) -> Vec<Line> {
        self.dnsmasq.lines()
    }

    /// The HTTP server's log.
    pub fn http_log(&self) -> Vec<Line> {
        self.http.lines()
    }
}

/// An ordinary DHCP server (addresses only), beside which a proxy can serve. `pool` as dnsmasq writes it:
/// `10.77.0.100,10.77.0.199`.
pub fn dnsmasq_plain_dhcp(namespace: &Namespace, dir: &Path, pool: &str) -> Result<Process> {
    dnsmasq(namespace, dir, &format!("interface=eth0\ndhcp-range={pool},10m\ndhcp-authoritative\n"))
}

/// dnsmasq with these lines of configuration, which give addresses.
pub fn dnsmasq(namespace: &Namespace, dir: &Path, config: &str) -> Result<Process> {
    let name = namespace.name();
    let (file, leases) = (dir.join(format!("{name}.dnsmasq.conf")), dir.join(format!("{name}.leases")));
    // A process that changes its user would not die with this one, hence root.
    let frame = format!("port=0\nuser=root\nlog-dhcp\ndhcp-leasefile={}\n", leases.display());
    fs::write(&file, frame + config)?;
    let mut command: Command = namespace.command("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file="]);
    command.arg(format!("--conf-file={}", file.display()));
    let process = namespace.spawn(command)?;
    process.wait_for_line("DHCP, IP range", START)?;
    Ok(process)
}

fn serve_http(namespace: &Namespace, root: &Path) -> Result<Process> {
    let mut command = namespace.command("busybox");
    command.args(["httpd", "-f", "-vv", "-p", &format!("{SERVER_ADDRESS}:{HTTP_PORT}"), "-h"]).arg(root);
    let process = namespace.spawn(command)?;
    namespace.wait_for_listener(HTTP_PORT, START)?;
    Ok(process)
}

fn boot_script(kernel_args: &str) -> String {
    let url = |file: &str| format!("http://{SERVER_ADDRESS}:{HTTP_PORT}/{file}");
    let (kernel, initrd) = (url(guest::KERNEL), url(guest::INITRD));
    // iPXE in EFI hands the initrd to the kernel by name.
    format!("#!ipxe\nkernel {kernel} initrd=initrd.img {kernel_args}\ninitrd {initrd}\nboot\n")
}
