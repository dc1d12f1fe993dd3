//! Warnings about features that this machine's kernel lacks.

use std::{fs, path::Path};

/// The first kernel with the helpers that the XDP program calls.
const XDP: (u32, u32) = (5, 18);
/// The first kernel with tcx links, by which the TC program outlives the daemon.
const TCX: (u32, u32) = (6, 6);

pub(super) fn lacks() -> Vec<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut lacks = kernel_lacks(release.trim());
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        lacks.push(
            "/sys/kernel/btf/vmlinux: a kernel with CONFIG_DEBUG_INFO_BTF describes its types there".into(),
        );
    }
    if !Path::new("/dev/net/tun").exists() {
        lacks.push(
            "/dev/net/tun: firmware tests connect QEMU through it; to load it:\n    modprobe tun".into(),
        );
    }
    lacks
}

fn kernel_lacks(release: &str) -> Vec<String> {
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let needs =
        |(major, minor): (u32, u32), what| format!("Linux {major}.{minor} for {what}; this is {release}");
    let mut lacks = Vec::new();
    if version < XDP {
        lacks.push(needs(XDP, "the XDP program"));
    }
    if version < TCX {
        lacks.push(needs(TCX, "the TC program"));
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_lacks_hooks() {
        assert_eq!(kernel_lacks("6.18.44-fc-v669"), [""; 0]);
        assert_eq!(kernel_lacks("6.6-rc1"), [""; 0]);
        assert_eq!(kernel_lacks("6.1.0-56-amd64"), ["Linux 6.6 for the TC program; this is 6.1.0-56-amd64"]);
        assert_eq!(kernel_lacks("5.15.0").len(), 2);
    }
}
