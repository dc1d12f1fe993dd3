//! What happens where machines get scripts and files.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::boot::documents::NoDocument;
use crate::boot::plan::NoScript;
use crate::tftp::Outcome;

/// What TFTP does.
#[derive(Clone, Debug)]
pub enum Tftp {
    /// What a file is that is going to be sent.
    Inspected {
        /// Its name.
        file: String,
        /// What it is, or what is wrong with it and what to do: a sentence.
        says: String,
        /// Something is wrong with it.
        is_wrong: bool,
    },
    /// A file is not served.
    NotServed {
        /// Who asked.
        client: SocketAddrV4,
        /// Its name.
        file: String,
        /// Why.
        why: NotServed,
        /// Loaders try names like this one on every boot before another.
        is_customary: bool,
    },
    /// A client of no network of ours gets no answer.
    Stranger {
        /// The client.
        client: Ipv4Addr,
        /// The network to write into the configuration.
        net: Ipv4Net,
    },
    /// A transfer has ended.
    Ended {
        /// Whose.
        client: SocketAddrV4,
        /// The file.
        file: String,
        /// How.
        outcome: Outcome,
    },
    /// A file could not be read.
    Unreadable {
        /// Its name.
        file: String,
        /// Why.
        error: String,
    },
}

/// Why a file is not served.
#[derive(Clone, Debug)]
pub struct NotServed {
    /// What the client is told.
    pub why: WhyNotServed,
    /// The whole reason, for people.
    pub error: Arc<dyn Error + Send + Sync>,
}

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNotServed {
    /// There is none of that name.
    NotFound,
    /// It is none that may be served.
    Forbidden,
    /// It could not be opened.
    Failed,
}

/// What the daemon does not hear, of what the kernel half saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// TFTP.
    Tftp {
        /// The interfaces, as a list.
        links: String,
        /// How many requests.
        requests: u64,
    },
    /// DHCP.
    Dhcp {
        /// How many requests.
        requests: u64,
    },
}

/// What became of a request for a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// It was sent.
    Sent {
        /// Its length.
        bytes: usize,
        /// The UUID that the machine says it has.
        uuid: Option<[u8; 16]>,
    },
    /// Only its length was asked for.
    Measured,
    /// There is none.
    None(NoScript),
}

/// What became of a request for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// It was sent.
    Sent {
        /// Its length.
        bytes: usize,
    },
    /// Only its length was asked for.
    Measured,
    /// There is none.
    None(NoDocument),
}

/// What a machine says at the end of its boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhoneHome {
    /// It went well. The text is the machine's own, on one line.
    Success(String),
    /// It failed.
    Failure(String),
    /// It is of an installation before the last one.
    OfEarlierRun,
    /// It was said of a machine that has another address.
    OfAnother {
        /// Its name, or its MAC.
        machine: String,
        /// The address it has.
        address: Ipv4Addr,
    },
}

/// Why a client of HTTPS gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// It speaks HTTP.
    Http,
    /// It knows no TLS 1.2.
    OldVersion,
    /// None of its cipher suites can be used with the certificate.
    NoCipher {
        /// How it could exchange keys: `TLS_RSA`, `TLS_DHE_RSA` and so on; may be empty.
        offered: String,
    },
    /// It does not trust the certificate, and says why in OpenSSL's words.
    Distrusted(String),
    /// It has left after it was shown the certificate, and did not say why.
    Left,
    /// It took too long.
    Late,
    /// Anything else, in OpenSSL's words.
    Other(String),
}

/// What HTTP does with files.
#[derive(Clone, Debug)]
pub enum Http {
    /// A path was asked for that none of ours is.
    NoSuchPath(String),
    /// A client of HTTPS was not understood.
    NoTls(NoTls),
    /// A file was asked for, and is there.
    Asked {
        /// Its name.
        file: Arc<str>,
        /// Only its length was asked for.
        is_head: bool,
        /// Only a part of it was asked for.
        is_part: bool,
    },
    /// A file is not served.
    NotServed {
        /// Its name.
        file: Arc<str>,
        /// Why.
        why: NotServed,
    },
    /// An image is not served.
    NoImage {
        /// Its name.
        file: Arc<str>,
        /// Why: a sentence.
        why: String,
    },
    /// An image, or what was asked of it, was sent while it was fetched.
    Relayed {
        /// Its name.
        file: Arc<str>,
        /// How much.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A file, or what was asked of it, was sent.
    Sent {
        /// Its name.
        file: Arc<str>,
        /// How much.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A part in the middle of a file was sent: iPXE reads a disk like this (`sanboot`), thousands of times.
    Read {
        /// Its name.
        file: Arc<str>,
        /// How much.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A file could not be read to its end.
    Broken {
        /// Its name.
        file: Arc<str>,
        /// How much was sent.
        bytes: u64,
        /// How long it took.
        took: Duration,
        /// Why.
        why: String,
    },
    /// The daemon ended the connection before the client had everything.
    Ended {
        /// The file's name.
        file: Arc<str>,
        /// How much the client got.
        bytes: u64,
        /// How much it asked for.
        whole: u64,
        /// How long it took.
        took: Duration,
        /// Why.
        why: WhyEnded,
    },
    /// A request was refused that no handler has seen.
    Refused(RefusedRequest),
    /// The client left before it had everything.
    Left {
        /// The file's name.
        file: Arc<str>,
        /// How much it got.
        bytes: u64,
        /// How much it asked for.
        whole: u64,
        /// How long it took.
        took: Duration,
    },
}

/// Why the daemon ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyEnded {
    /// For so many seconds the client has taken nothing.
    Stalled(u64),
    /// It was the longest idle one, and another one needed its place.
    MadeRoom,
    /// xpxe was stopped.
    Stopped,
}

/// Why no handler has seen a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedRequest {
    /// It is no HTTP, or its headers are too long.
    Unreadable(String),
    /// Its headers did not come to their end in time.
    TooSlow,
    /// Its method or its path is none of ours.
    Status {
        /// The method, fit for a log.
        method: String,
        /// The path, fit for a log.
        path: String,
        /// What it was answered.
        status: u16,
    },
}
