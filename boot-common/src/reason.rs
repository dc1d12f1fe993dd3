//! How a packet ended, and why.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $says:literal;)*) => {
        /// How a packet ended at a hook: answered there, or passed on or dropped for a reason.
        ///
        /// This closed list gives the counters' index, the metrics' label, the word in logs, and the results that tests
        /// assert.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* #[doc = $says] $variant,)* }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The label in metrics and logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }
        }
    };
}

reasons! {
    Offered = "offered", "answered here with an OFFER";
    Acked = "acked", "answered here with an ACK";
    Bootp = "bootp", "answered here as BOOTP, with a reserved address";
    Informed = "informed", "answered here with the options that were asked for";
    BootServer = "boot-server", "answered here with the boot file, on port 4011";
    NotOurs = "not-ours", "not DHCP, PXE or TFTP to this server";
    TftpBlock = "tftp-block", "answered here with the next block of a file";
    TftpDone = "tftp-done", "the last acknowledgement of a transfer, which ends here";
    Tftp = "tftp", "a TFTP packet that is no plain acknowledgement, which the daemon answers";
    TftpUnknown = "tftp-stranger", "an acknowledgement of no transfer that the kernel half knows";
    TftpRepeated = "tftp-repeated", "an acknowledgement that came before, which is never answered";
    TftpInside = "tftp-inside", "an acknowledgement of a part of the window, which the daemon decides";
    TftpImpossible = "tftp-impossible", "an acknowledgement of what was not sent, or long ago";
    TftpWindow = "tftp-window", "several blocks are due, and this hook can send one";
    TftpRace = "tftp-race", "another CPU answered the same acknowledgement; the frame was dropped";
    NoLink = "no-link", "the interface is not configured";
    RoleOff = "role-off", "DHCP is off on this interface";
    TooShort = "too-short", "shorter than the headers it claims to have";
    TooLong = "too-long", "longer than one Ethernet frame";
    IpOptions = "ip-options", "the IP header has options";
    Fragment = "fragment", "a fragment of an IP packet";
    BadIpChecksum = "bad-ip-checksum", "the IP header's checksum is wrong";
    BadUdpChecksum = "bad-udp-checksum", "the UDP checksum is wrong, or not finished yet by the sending host's offload";
    BadUdpLength = "bad-udp-length", "UDP and IP disagree about the length";
    ForeignMac = "foreign-mac", "an Ethernet frame for somebody else";
    ForeignIp = "foreign-ip", "an IP packet for somebody else";
    BadSource = "bad-source", "a source address or port that nobody can answer";
    NotARequest = "not-a-request", "a BOOTP reply, not a request";
    NotEthernet = "not-ethernet", "hardware type or address length is not Ethernet's";
    BadCookie = "bad-cookie", "no DHCP magic cookie";
    BadOption = "bad-option", "an option runs past the end of the packet";
    TooManyOptions = "too-many-options", "more options than the kernel half looks at";
    Overload = "overload", "options continue in the file or sname field";
    SplitOption = "split-option", "an option is given in several pieces";
    NoMessageType = "no-message-type", "BOOTP without a DHCP message type";
    NotPxe = "not-pxe", "not a PXE client, and this interface is a proxy";
    OtherMessage = "other-message", "a DHCP message that changes state, which the daemon decides";
    PxeRequest = "pxe-request", "a request to port 4011 from an address that is not the client's own";
    UnknownHost = "unknown-host", "no entry for this machine yet";
    OtherSubnet = "other-subnet", "the machine is known on another subnet";
    NotDurable = "not-durable", "the lease is not stored far enough ahead to promise it here";
    OtherServer = "other-server", "the client chose another server";
    OtherAddress = "other-address", "the client asks for an address that is not its own";
    NoAnswer = "no-answer", "no answer is prepared for this kind of client";
    ReplyTooBig = "reply-too-big", "the answer does not fit what the client accepts";
    PoolExhausted = "pool-exhausted", "no address is left in the subnet's pools";
    NoSubnet = "no-subnet", "the relay or the interface is of no configured subnet";
    Refused = "refused", "answered with a NAK";
    Probing = "probing", "the address is being looked for on the network before it is offered";
    Released = "released", "the machine gave its address back or refused it, which has no answer";
    NoTailRoom = "no-tail-room", "the frame cannot grow to hold the answer at this hook";
    StoreFailed = "store-failed", "the answer could not be written; the frame was dropped";
    SwitchPort = "switch-port", "its switch port tells which machine it is, which the daemon looks up";
    NotBelieved = "not-believed", "a RELEASE or DECLINE that does not come from where the lease is, or one DECLINE too many";
    NotStored = "not-stored", "its lease could not be stored, so nothing was sent";
    NotSent = "not-sent", "the answer could not be sent: the interface took no packet";
    TftpRequest = "tftp-request", "a request for a file, which the daemon answers";
    BadRelay = "bad-relay", "its relay names an address that no relay, link or server can have";
    TftpNotAsked = "tftp-not-asked", "a TFTP packet that no client sends to a server's port: data, an acknowledgement of options, or of no known kind";
    Ignored = "ignored", "the machine is to be ignored, so its request was dropped";
}

impl Reason {
    /// How many there are: the counters' length for one hook.
    pub const COUNT: usize = Self::ALL.len();

    /// The counter's index within one hook.
    #[inline(always)]
    #[must_use]
    pub fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_and_names_are_distinct() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(reason.index()), Ok(position));
        }
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
