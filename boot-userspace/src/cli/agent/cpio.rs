//! An archive in the kernel's form (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Directory,
    Program,
    File,
    Device { major: u32, minor: u32 },
}

/// The archive so far.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds an entry, whose directory is there already.
    pub(super) fn add(&mut self, name: &str, kind: Kind, data: &[u8]) {
        let (mode, major, minor) = match kind {
            Kind::Directory => (0o040_755, 0, 0),
            Kind::Program => (0o100_755, 0, 0),
            Kind::File => (0o100_644, 0, 0),
            Kind::Device { major, minor } => (0o020_600, major, minor),
        };
        self.entries += 1;
        let (inode, size, name_size) = (self.entries, data.len(), name.len() + 1);
        // Inode, mode, user, group, links, time, size, the device that the file is on, the device that it is, the length of
        // the name with its NUL, checksum: each in eight hexadecimal digits.
        let numbers = [inode, mode, 0, 0, 1, 0];
        let numbers = numbers.into_iter().map(|number| format!("{number:08X}")).collect::<String>();
        let head = format!(
            "070701{numbers}{size:08X}{:08X}{:08X}{major:08X}{minor:08X}{name_size:08X}{:08X}",
            0, 0, 0
        );
        self.bytes.extend(head.bytes().chain(name.bytes()).chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    /// Adds a file behind the directories that it is in.
    pub(super) fn add_with_parents(&mut self, name: &str, data: &[u8]) {
        for (end, _) in name.match_indices('/') {
            let directory = name.get(..end).unwrap_or_default();
            if self.directories.insert(directory.to_owned()) {
                self.add(directory, Kind::Directory, &[]);
            }
        }
        self.add(name, Kind::File, data);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", Kind::File, &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the program that the form is of.
    #[test]
    fn cpio_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.add("init", Kind::Program, b"hello");
        archive.add_with_parents("lib/modules/6.1/a.ko", b"module");
        archive.add_with_parents("lib/modules/6.1/b.ko", b"");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081ED") && bytes.len() % 4 == 0);
        for directory in ["lib", "lib/modules", "lib/modules/6.1"] {
            assert_eq!(text.matches(&format!("{directory}\0")).count(), 1, "{directory}");
        }
        // Header, name and data of the first entry, each padded.
        assert_eq!(&bytes[110..124], b"init\0\0hello\0\0\0");
        assert_eq!(&bytes[54..62], b"00000005");
    }
}
