//! What a machine was when it booted, and what it booted.

use boot_common::class::{Firmware, Stage};

use super::boot::Boot;
use super::case::{Facts, is_same};

impl Boot {
    /// The kind of firmware, as its DHCP messages have named it.
    #[must_use]
    pub fn firmware(&self) -> Option<Firmware> {
        let named = |stage: Option<Stage>| {
            let classes = self.steps.iter().filter_map(|step| step.what.class());
            let mut of = classes.filter(|class| stage.is_none_or(|stage| class.stage == stage));
            of.find_map(|class| Some(class.firmware).filter(|firmware| *firmware != Firmware::None))
        };
        named(Some(Stage::Rom)).or_else(|| named(None))
    }

    /// The kernel, if it was sent, or else the last file that was sent.
    #[must_use]
    pub fn booted(&self, facts: &Facts) -> Option<&str> {
        let sent = || self.steps.iter().rev().filter_map(|step| step.what.sent());
        let is_initrd = |file: &str| facts.initrds.iter().any(|initrd| is_same(file, initrd));
        let kernel = sent().find(|file| is_same(file, &facts.kernel));
        kernel.or_else(|| sent().find(|file| !is_initrd(file)))
    }
}

#[cfg(test)]
mod tests {
    use boot_common::Mac;
    use boot_common::class::Class;

    use super::super::boot::Timed;
    use super::super::steps::{By, Given, What};
    use super::*;

    #[test]
    fn the_firmware_is_that_before_ipxe_and_the_kernel_is_what_was_booted() {
        let answered = |firmware, stage| What::Answered {
            given: Given::Offer,
            class: Class { firmware, stage }.key(),
            address: [10, 1, 1, 50].into(),
        };
        let sent = |file: &str| What::FileSent { file: file.into(), bytes: 1, millis: 1 };
        let boot = |steps: Vec<What>| Boot {
            mac: Mac([2; 6]),
            link: None,
            relay: None,
            opened: 1000,
            is_over: false,
            steps: steps
                .into_iter()
                .map(|what| Timed { at: 1000, last: 1000, count: 1, by: By::Daemon, secs: 0, what })
                .collect(),
            more: 0,
            beside: Vec::new(),
        };
        let facts = Facts {
            kernel: "linux/vmlinuz".to_owned(),
            initrds: vec!["linux/initrd.img".to_owned()],
            ..Facts::default()
        };
        let whole = boot(vec![
            answered(Firmware::EfiX64, Stage::Rom),
            answered(Firmware::Bios, Stage::Ipxe),
            sent("snponly.efi"),
            sent("linux/vmlinuz"),
            sent("linux/initrd.img"),
            sent("packages/first.deb"),
        ]);
        assert_eq!(whole.firmware(), Some(Firmware::EfiX64));
        assert_eq!(whole.booted(&facts), Some("linux/vmlinuz"));
        let short =
            boot(vec![answered(Firmware::Bios, Stage::Ipxe), sent("snponly.efi"), sent("linux/initrd.img")]);
        assert_eq!((short.firmware(), short.booted(&facts)), (Some(Firmware::Bios), Some("snponly.efi")));
        assert_eq!((boot(Vec::new()).firmware(), boot(Vec::new()).booted(&facts)), (None, None));
    }
}
