//! Lets aya copy the table types in and out of the kernel.
#![cfg(feature = "aya")]
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::tables::{Answer, AnswerKey, Event, Host, HostKey, LinkEntry, Settings};
use crate::tftp::TransferKey;

macro_rules! pod {
    ($($table:ty),*) => {$(
        // SAFETY: repr(C), Copy, and zerocopy's derives prove that any bytes are a value and that every
        // byte of a value is initialised (no padding).
        unsafe impl aya::Pod for $table {}
    )*};
}

pod!(Answer, AnswerKey, Event, Host, HostKey, LinkEntry, Settings, TransferKey);
