//! The causes: a closed list. Each has a name, a sentence, what the console shows, what to do, and where the page says more.

/// Makes the enum, the list of all causes, and their words.
macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident $name:literal, $did:literal, $says:literal, [$($console:literal),*], $remedy:literal;)*) => {
        /// Why a machine did not boot, or how far it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause { $($(#[$doc])* $cause,)* }

        impl Cause {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$cause),*];

            /// The name in JSON and in the page's headings.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$cause => $name,)* }
            }

            /// What several machines did or got, behind the word "machines".
            #[must_use]
            pub fn did(self) -> &'static str {
                match self { $(Self::$cause => $did,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Self::$cause => $says,)* }
            }

            /// What the machine's console shows.
            #[must_use]
            pub fn console(self) -> &'static [&'static str] {
                match self { $(Self::$cause => &[$($console),*],)* }
            }

            /// What to do. Empty where nothing is wrong.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$cause => $remedy,)* }
            }
        }
    };
}

causes! {
    /// Nothing is wrong.
    Boots "boots", "booted", "The machine booted.", [], "";
    /// It is too early to say.
    UnderWay "under-way", "are booting", "The machine is booting, or was until a moment ago.", [], "";
    /// The kernel comes from another server.
    OutOfSight "out-of-sight", "fetched a script that names another server", "The machine fetched its script, which names a kernel on another server: what happened after that is not seen from here.", [], "Look at that server's log.";
    /// 1: configured, and never heard.
    NeverAsked "never-asked", "never asked", "The machine is known and was not heard since xpxe began to keep boots.",
        ["PXE-E61: Media test failure, check cable", "PXE-M0F: Exiting PXE ROM", "No bootable device", "iPXE: Link status: Down (38086193)"],
        "Check its cable and its switch port (link, VLAN, DHCP snooping), that its firmware boots from this network card, and its MAC as xpxe has it (xpxe explain).";
    /// 2: we do not answer, and say why.
    NotAnswered "not-answered", "got no answer", "The machine asked for an address, and this server did not answer.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "PXE-E16: No offer received", "iPXE: No configuration methods succeeded", "U-Boot: BOOTP broadcast … Retry time exceeded; starting again", "GRUB: error: couldn't autoconfigure efinet0"],
        "The evidence says why it was not answered: mend that.";
    /// 3: the offer was not taken.
    OfferNotTaken "offer-not-taken", "took no OFFER", "The machine asks again and again and does not take this server's offer: the offer does not reach it, or it does not like it.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "iPXE: No configuration methods succeeded", "U-Boot: BOOTP broadcast … Retry time exceeded; starting again", "GRUB: error: couldn't autoconfigure efinet0"],
        "Look for the offer at the machine's switch port (tcpdump port 68). If it is missing there: check the way back (the relay's address is routed to this host, a firewall, DHCP snooping with this server's port untrusted, LACP on a port of a single link). If it is there, another server's offer was better for the machine.";
    /// 3: the first answers were lost, and a later one was taken.
    LateLink "late-link", "got their first OFFERs late", "The first offers did not reach the machine, and a later one did: its switch port began to forward late.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "iPXE: Waiting for link-up", "iPXE: Connection timed out (4c126035)"],
        "Set the machine's switch port to an edge port (PortFast), and give LACP ports a fallback to a single link.";
    /// 4 and 22: another server.
    OtherServer "other-server", "took another server's OFFER", "The machine took the offer of another DHCP server.",
        ["The wrong boot menu or operating system appears", "PXE-E53: No boot filename received", "PXE-E55: ProxyDHCP service did not reply to request on port 4011", "iPXE: Nothing to boot: No such file or directory (2d03e13b)"],
        "Stop that server or keep it out of this VLAN (DHCP snooping); or set dhcp = \"proxy\" for the interface, if that server is to give the addresses.";
    /// 5: a stranger's NAK.
    RefusedByOther "refused-by-other", "got a NAK of another server", "Another DHCP server refused the machine's request (NAK).",
        ["PXE-E07: Network device error", "iPXE: No configuration methods succeeded"],
        "Stop that server, or take \"authoritative\" out of its configuration.";
    /// We sent a NAK.
    RefusedHere "refused-here", "got a NAK", "This server refused the machine's request (NAK), and it did not ask anew.",
        ["PXE-E07: Network device error", "iPXE: No configuration methods succeeded"],
        "The evidence says why. If the machine wants an address that it had elsewhere, power it off and on.";
    /// 6: no subnet.
    NoSubnet "no-subnet", "got no OFFER", "The machine asked through a relay, or on an interface, that no [[subnet]] of the configuration fits.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "PXE-E16: No offer received", "U-Boot: BOOTP broadcast … Retry time exceeded; starting again"],
        "Write a [[subnet]] that contains the relay's address (giaddr), or correct the relay.";
    /// 7: no address left.
    PoolExhausted "pool-exhausted", "got no OFFER", "No address is left for the machine in its subnet.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "PXE-E16: No offer received", "U-Boot: BOOTP broadcast … Retry time exceeded; starting again"],
        "Make the subnet's pool larger, or shorten its lease; xpxe leases list shows who has the addresses.";
    /// 9: beside another server.
    NoAddressFromOther "no-address-from-other", "got no address from the other server", "This server is a proxy: it offered the boot file, and no other DHCP server gave the machine an address.",
        ["PXE-E52: proxyDHCP offers were received. No DHCP offers were received", "PXE-E51: No DHCP or proxyDHCP offers were received", "iPXE: Configuring (net0) ...... ends without an address", "PXE-E18: Server response timeout"],
        "Check that the DHCP server that gives the addresses runs and serves this VLAN, or set dhcp = \"server\" and a [[subnet]].";
    /// 8: the answer comes from an unexpected address.
    ReplySource "reply-source", "got no OFFER", "The machine's relay sends to one address of this server, and the answers leave from another one: they are dropped on the way.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "PXE-E16: No offer received"],
        "Have the relay send to the address that the evidence names as that of the answers (ip helper-address, or the relay's server list), or make the other one the interface's first address.";
    /// 10: two servers name a boot file.
    ConflictingFile "conflicting-file", "followed another server's boot file", "Another DHCP server names a boot file for the machine, too, and the machine follows that one.",
        ["PXE-E53: No boot filename received", "PXE-T01: File not found", "PXE-E3B: TFTP Error - File Not found", "PXE-E32: TFTP open timeout", "PXE-E11: ARP timeout", "The wrong boot menu or operating system appears"],
        "Take options 66 and 67 (next-server, filename, bootp) out of the other server's configuration: beside a proxy it gives addresses only.";
    /// 21: two machines are one.
    DuplicateIdentity "duplicate-identity", "have the MAC or UUID of another machine", "Two machines have the same MAC or the same UUID, so each gets what is meant for the other.",
        ["The wrong host name, address or operating system appears", "iPXE: Connection reset (0f0a6039)", "PXE-E99: Unexpected network error"],
        "Give one of them another MAC or UUID (virtual machines that were cloned; boards whose maker wrote one UUID into all), or have the configuration know them by MAC instead of UUID.";
    /// 21: the address is somebody else's, too.
    AddressInUse "address-in-use", "found their address in use", "Another host uses the address that the machine was to get.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "iPXE: no answer to HTTP or TFTP", "PXE-E11: ARP timeout", "U-Boot: ARP Retry count exceeded; starting again"],
        "Find the host with that address (two machines with one MAC or one reservation, or a fixed address inside the pool), and give it another one.";
    /// 11: an address, and no file asked.
    NoFileAsked "no-file-asked", "asked for no boot file", "The machine took its address and never asked for its boot file.",
        ["PXE-E53: No boot filename received", "PXE-E55: ProxyDHCP service did not reply to request on port 4011", "PXE-E32: TFTP open timeout", "PXE-E11: ARP timeout", "U-Boot: ARP Retry count exceeded; starting again"],
        "Check that UDP port 69 (and port 80 or that of [http] for HTTP Boot) of this server is open on the way, that the router passes it, and that the machine does not stop for its operator. If the boot file is on another server, look there.";
    /// No loader for this firmware.
    NoLoader "no-loader", "have no boot loader", "There is no boot loader for this kind of machine.",
        ["PXE-E53: No boot filename received", "PXE-E51: No DHCP or proxyDHCP offers were received"],
        "Install the iPXE binary that the evidence names, or name one in [ipxe].";
    /// 12: a name that is not there.
    FileMissing "file-missing", "asked for a boot file that is not there", "The machine asked for a boot file that is not served.",
        ["PXE-T01: File not found", "PXE-E3B: TFTP Error - File Not found", "PXE-E23: Client received TFTP error from server", "iPXE: No such file or directory (2d0c613b)", "GRUB: error: file '…' not found", "U-Boot: TFTP error: 'File not found' (1)", "PXE-E36: Error received from TFTP server", "NBP filesize is 0 Bytes"],
        "Correct the name in the configuration, or put the file into boot_dir; xpxe check names every missing file.";
    /// 12: a file that the machine cannot boot.
    WrongFile "wrong-file", "fetched a boot file that they cannot boot", "The machine fetched a boot file that it cannot boot: it is for another architecture, damaged, or no boot file.",
        ["Image is not for this architecture (UEFI shell or firmware menu appears)", "PXE-E99: Unexpected network error", "A black screen, or the next boot entry", "PXE-E79: NBP is too big to fit in free base memory"],
        "The evidence says what the file is and what to put in its place.";
    /// 13: TFTP, the first answer.
    TftpNoAnswer "tftp-answer-lost", "heard no answer by TFTP", "The machine asked for a file by TFTP, and this server's first answer did not reach it.",
        ["PXE-E32: TFTP open timeout", "PXE-E18: Server response timeout", "PXE-E99: Unexpected network error", "U-Boot: Loading: T T T … Retry count exceeded; starting again", "GRUB: error: timeout reading '…'", "NBP filesize is 0 Bytes"],
        "A firewall on the way lets UDP port 69 in and does not let the answer back, or several ways of equal cost (ECMP) lose one of them: set single_port = true in [tftp], and let UDP pass in both directions.";
    /// 13: TFTP, full packets.
    TftpMtu "tftp-mtu", "got no full packet by TFTP", "The machine got the small answers of TFTP and no full block: packets of full size do not pass on the way.",
        ["PXE-E32: TFTP open timeout", "PXE-E18: Server response timeout", "PXE-E23: Client received TFTP error from server", "U-Boot: Loading: T T T … Retry count exceeded; starting again", "GRUB: error: timeout reading '…'"],
        "Make the MTU the same everywhere on the way (tunnels and VLANs take some of it), or lower the MTU of this server's interface, which bounds the blocks.";
    /// 13: TFTP, in the middle.
    TftpStalled "tftp-stalled", "stopped in the middle of their boot file", "The machine stopped in the middle of a file that it fetched by TFTP.",
        ["PXE-E18: Server response timeout", "PXE-E99: Unexpected network error", "PXE-E32: TFTP open timeout", "U-Boot: Loading: T T T … Retry count exceeded; starting again", "GRUB: error: timeout reading '…'"],
        "If it stops at the same block again, a device on the way drops that packet, or the machine has too little memory for the file. If not: packet loss, or somebody switched it off.";
    /// The client ended it.
    TftpAborted "tftp-aborted", "gave up their boot file", "The machine ended the transfer of its boot file with an error.",
        ["PXE-E23: Client received TFTP error from server", "PXE-E99: Unexpected network error"],
        "The evidence has the machine's own words. Often the file does not fit its memory, or is for another architecture.";
    /// 14: fetched, and nothing came of it.
    LoaderSilent "loader-silent", "did not start their boot file", "The machine fetched its boot file, and the boot file never asked for anything.",
        ["Access Denied, or Security Violation: Secure Boot refused the file", "PXE-E99: Unexpected network error", "Image is not for this architecture (UEFI shell or firmware menu appears)", "A black screen, or the next boot entry", "PXE-E79: NBP is too big to fit in free base memory"],
        "If Secure Boot is on, serve a signed loader (shim) or turn it off. Else compare the file with a good one (xpxe check says what it is), and the machine's memory with what it needs.";
    /// 15: iPXE's own DHCP.
    SecondDhcp "second-dhcp", "got no address for iPXE", "The firmware got an address and loaded iPXE, and iPXE got none: the link went down and up between them.",
        ["iPXE: Configuring (net0 …) ...... Connection timed out (4c126035)", "iPXE: No configuration methods succeeded (040ee119)", "iPXE: Link status: Down (38086193)"],
        "The switch port blocks for some seconds after each link-up: set it to an edge port (PortFast). On some cards snponly.efi instead of ipxe.efi helps, because it leaves the firmware's driver running.";
    /// 17: no script.
    NoScriptAsked "no-script-asked", "asked for no script", "iPXE got its address and never asked for its script.",
        ["iPXE: http://…/boot.ipxe... Connection timed out (4c0a6035)", "iPXE: Connection reset (0f0a6039)", "iPXE: Operation not supported (3c092003): this iPXE has no HTTP", "iPXE: Nothing to boot: No such file or directory (2d03e13b)"],
        "Check that the machine reaches the address and port of [http] on this server: a firewall, the router option, or a second interface that iPXE chose.";
    /// The server has no script for it.
    NoScript "no-script", "got no script", "The machine asked for its boot script, and there is none for it.",
        ["iPXE: the reason, on the console", "iPXE: No such file or directory (2d0c613b)"],
        "The evidence says why; xpxe explain MAC shows which line of the configuration decides.";
    /// 24: stuck, waits for an operator.
    Waiting "waiting", "wait for a profile", "The machine waits: it has no profile, and asks again until somebody gives it one.",
        ["iPXE: … has no profile … waiting"],
        "Give the machine a profile in [[machine]] or in a [[group]], or set profile in [default].";
    /// 24: nobody has accepted it.
    NotAccepted "not-accepted", "wait to be accepted", "The machine waits until somebody accepts it.",
        ["iPXE: … is discovered … waiting", "iPXE: … is not in the configuration yet: waiting"],
        "Accept or ignore it (xpxe machines accept MAC, or ignore), write a [[machine]], or have a rule accept it (accept in [lifecycle]).";
    /// 24: nothing to wipe it with.
    NoAgent "no-agent", "wait for an agent", "The machine is to be wiped, and there is no agent to boot for that.",
        ["iPXE: … is accepted … waiting", "iPXE: … is released … waiting"],
        "Set agent in [lifecycle], or wipe = false there.";
    /// 24: nobody has allocated it.
    NotAllocated "not-allocated", "wait to be allocated", "The machine is free, and boots nothing until somebody allocates it.",
        ["iPXE: … is ready … waiting"],
        "Allocate it (xpxe machines allocate NAME), if it is to run.";
    /// 24: it runs.
    FromDisk "from-disk", "boot from their disk", "The machine runs: it is told to boot from its disk, as it should.",
        ["iPXE: … runs: it boots from its disk"],
        "If it is to be installed anew: xpxe machines reinstall NAME. If it is to boot from the network each time, name its profile in live of [lifecycle].";
    /// 24: maintenance.
    InMaintenance "in-maintenance", "are in maintenance", "The machine is in maintenance, and boots nothing.",
        ["iPXE: … is maintenance … waiting"],
        "Bring it back when the work is done (xpxe machines resume NAME).";
    /// 24: ignored.
    Ignored "ignored", "are ignored", "The machine is ignored: it gets no answer.",
        ["PXE-E51: No DHCP or proxyDHCP offers were received", "PXE-E18: Server response timeout", "PXE-E16: No offer received", "U-Boot: BOOTP broadcast … Retry time exceeded; starting again"],
        "If it is to boot: xpxe machines accept NAME.";
    /// 24: failed.
    FailedBefore "failed-before", "have failed before", "The machine has failed before, and waits for a person.",
        ["iPXE: … is failed … waiting"],
        "Mend what the evidence says, then give it a new order (xpxe machines accept, allocate, release, wipe or reinstall).";
    /// 24: its record is not served.
    NotServed "not-served", "are not served", "The record of the machine does not fit the configuration, has something of another machine, or cannot be read: it waits until that is mended.",
        ["iPXE: … not served: … waiting"],
        "Mend what the evidence says, in the record (xpxe machines set NAME) or in the configuration (then xpxe reload): it is served again by itself. Of a record that cannot be read it says what to do.";
    /// 24: too long in one state.
    StuckInState "stuck-in-state", "are stuck in their state", "The machine is in its state for longer than it should be.",
        ["What its own boot shows"],
        "The evidence says what it waits for; xpxe machines show NAME has its history, and limits in [lifecycle] the times.";
    /// 16: the loader again.
    LoaderLoop "loader-loop", "load their loader again and again", "The machine loads the same boot loader again and again: the loader does not know what to do next.",
        ["iPXE's banner, again and again"],
        "The loader is given itself: a script or boot_file that names it, or another DHCP server that gives it to iPXE, too. iPXE has to get the script.";
    /// 17: the kernel is not there.
    KernelMissing "kernel-missing", "asked for a kernel that is not there", "The machine fetched its script, and a file that the script names is not served.",
        ["iPXE: http://…/vmlinuz... No such file or directory (2d0c613b)", "iPXE: Error 0x420c6001 or 404", "GRUB: error: file '…' not found", "U-Boot: TFTP error: 'File not found' (1)"],
        "Correct the name in the profile, or put the file into boot_dir; xpxe check names every missing file.";
    /// 17: HTTPS.
    TlsFailed "tls-failed", "could not begin HTTPS", "The machine could not begin HTTPS.",
        ["iPXE: Operation not permitted (410de18f)", "iPXE: Permission denied (0216eb8f)", "iPXE: Error 0x0216eb3c", "UEFI: the file could not be loaded"],
        "The evidence says why. Check the machine's clock, which certificate it trusts, and that iPXE is built with DOWNLOAD_PROTO_HTTPS.";
    /// 17: the kernel was not asked for.
    KernelNotAsked "kernel-not-asked", "asked for no kernel", "The machine fetched its script and never asked for its kernel.",
        ["iPXE: Could not start download: Operation not supported (3c092003)", "iPXE: DNS name does not exist (3e11618e)", "iPXE: Connection timed out (4c0a6035)"],
        "Read the script (xpxe explain MAC shows its parts): a name that its DNS does not know, a protocol that this iPXE lacks, or a prompt that waits for a person.";
    /// 18: cut off.
    FileCutOff "file-cut-off", "did not get their kernel whole", "A kernel or initrd did not reach the machine whole.",
        ["iPXE: http://…/initrd... Out of memory? Not enough space (31062006)", "iPXE: Connection reset (0f0a6039)", "Kernel panic - not syncing: VFS: Unable to mount root fs"],
        "If the machine closed the connection, it has too little memory for the file or was reset. If it stalled, packets are lost on the way.";
    /// 19: the kernel is silent.
    SystemSilent "system-silent", "went silent behind their kernel", "The machine fetched its kernel and initrd, and nothing was heard of the operating system: it asked for no address and did not report.",
        ["Kernel panic", "A black screen: the kernel writes to another console", "dracut: Warning: Could not boot", "ipconfig: no response after 3 secs - giving up", "GRUB: error: bad shim signature", "iPXE: Could not select: Exec format error (2e008081)"],
        "Look at the serial console. Usual causes: too little memory, a network driver that the initrd lacks, a wrong console=, a kernel that Secure Boot refuses, or a system that boots well and needs no network.";
    /// The machine reported a failure.
    ReportedFailure "reported-failure", "reported a failure", "The machine reported that its boot or its installation failed.",
        ["The installer's or cloud-init's own message"],
        "The evidence has its own words; look at its log.";
    /// 20: over and over.
    BootLoop "boot-loop", "boot over and over", "The machine boots over and over.",
        ["The same boot, again and again"],
        "It may install itself each time because its firmware boots from the network first: give it a profile that boots from disk after the installation, or change its boot order. Else its system panics and restarts: look at the console.";
    /// 23: slow.
    Slow "slow", "booted slowly", "The machine booted, and took much longer than it or its neighbours usually do.", [],
        "The evidence names the part that took the time.";
}
