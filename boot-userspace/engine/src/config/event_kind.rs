//! The kinds of events, as the configuration, logs and metrics name them.

/// Makes the enum, the list of all its kinds, and their names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal)*) => {
        /// The kind of an event: the word after `step=` in the log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum EventKind { $($(#[$doc])* $kind,)* }

        impl EventKind {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$kind),*].len()] = [$(Self::$kind),*];

            /// The word in logs and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// An address was offered.
    Offer "offer"
    /// An address was acknowledged, or options or a boot file given.
    Ack "ack"
    /// An address was given by BOOTP.
    Bootp "bootp"
    /// A REQUEST was refused.
    Nak "nak"
    /// A machine is known by another mark than its MAC.
    Recognised "recognised"
    /// A boot file is missing, or lacks something.
    Loader "loader"
    /// Another DHCP server was heard of.
    OtherServer "other-server"
    /// A request came to another address of this server than the answer leaves from.
    ReplySource "reply-source"
    /// A switch was heard of.
    Switch "switch"
    /// A machine is in the wrong subnet.
    Stray "stray"
    /// An address was declined.
    Decline "decline"
    /// An address was given back.
    Release "release"
    /// A message in a machine's name was not believed.
    NotBelieved "not-believed"
    /// An address was found in use.
    Probe "probe"
    /// A message that has no answer.
    Dropped "dropped"
    /// A client that waits for an answer gets none.
    Unanswered "unanswered"
    /// A machine beside a proxy requests its address from another server.
    TookElsewhere "took-elsewhere"
    /// A subnet has no address left, or has some again.
    Exhausted "exhausted"
    /// A machine is in no subnet.
    NoSubnet "no-subnet"
    /// A step of TFTP.
    Tftp "tftp"
    /// DHCP that the daemon does not hear.
    Dhcp "dhcp"
    /// A boot script.
    Script "script"
    /// A document of a machine.
    Document "document"
    /// A machine said how its boot went.
    PhoneHome "phone-home"
    /// A file by HTTP.
    Http "http"
    /// A router advertisement.
    Ra "ra"
    /// A machine asks in a loop.
    Flood "flood"
    /// A machine of the registry is in another state.
    State "state"
    /// A machine's agent says how far it is.
    Progress "progress"
    /// A machine of the registry is in its state for too long.
    Overdue "overdue"
    /// A command to a BMC has ended.
    Power "power"
    /// A machine consists of something else than before.
    Inventory "inventory"
    /// Two machines have something that only one can have.
    Conflict "conflict"
    /// An image of the content store.
    Image "image"
    /// An operator took an address.
    Delete "delete"
    /// An operator brought leases.
    Import "import"
}
