//! What several kinds of sockets need.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use boot_common::Mac;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{SockFilter, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a packet or raw socket awaitable. Must be called inside a tokio runtime.
#[expect(unsafe_code, reason = "tokio has no safe type for a packet or raw socket")]
pub(crate) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns one valid descriptor, and nothing here replaces or closes it in the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Asks for a receive buffer of so many bytes. Going past `net.core.rmem_max` needs CAP_NET_ADMIN; a smaller buffer
/// still works.
pub(crate) fn enlarge_receive_buffer(socket: &impl AsFd, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err()
        && let Err(error) = setsockopt(socket, sockopt::RcvBuf, &bytes)
    {
        tracing::debug!(%error, "the receive buffer stays at its default size");
    }
}

/// Asks for a send buffer of so many bytes. Going past `net.core.wmem_max` needs CAP_NET_ADMIN; a smaller buffer
/// still works.
pub(crate) fn enlarge_send_buffer(socket: &impl AsFd, bytes: usize) {
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err()
        && let Err(error) = setsockopt(socket, sockopt::SndBuf, &bytes)
    {
        tracing::debug!(%error, "the send buffer stays at its default size");
    }
}

/// Has an interface receive what is sent to a group of stations. As long as the socket is open.
///
/// # Errors
/// As the system gives them.
#[expect(unsafe_code, reason = "no safe interface to PACKET_ADD_MEMBERSHIP in nix, rustix or socket2")]
pub(crate) fn join(socket: &impl AsFd, ifindex: u32, group: Mac) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group.0);
    let membership = libc::packet_mreq {
        mr_ifindex: libc::c_int::try_from(ifindex).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
        mr_alen: 6,
        mr_address: address,
    };
    let length = size_of::<libc::packet_mreq>() as libc::socklen_t;
    let option = libc::PACKET_ADD_MEMBERSHIP;
    // SAFETY: the kernel reads as many bytes as the length says from a value that lives.
    let done = unsafe {
        let value = (&raw const membership).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_PACKET, option, value, length)
    };
    Errno::result(done)?;
    Ok(())
}

/// What of a connection's bytes has not arrived.
pub(crate) struct Unacknowledged {
    /// Bytes that were sent over TCP and not acknowledged; the end counts as one (SIOCOUTQ of tcp(7)).
    pub(crate) bytes: usize,
    /// They never will be. Said once.
    pub(crate) is_reset: bool,
}

/// Looks how far the other end of a connection has got.
///
/// # Errors
/// As the system gives them.
#[expect(unsafe_code, reason = "no safe interface to SIOCOUTQ in nix, rustix or socket2")]
pub(crate) fn unacknowledged(connection: &impl AsFd) -> io::Result<Unacknowledged> {
    let is_reset = getsockopt(connection, sockopt::SocketError)? != 0;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to where it is pointed at, which lives.
    Errno::result(unsafe { libc::ioctl(connection.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(Unacknowledged { bytes: usize::try_from(bytes).unwrap_or(0), is_reset })
}

/// Classic BPF, of which filters are made.
pub(crate) mod filter {
    use super::SockFilter;

    pub(crate) const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    pub(crate) const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    pub(crate) const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    pub(crate) const LOAD_HALF_BEHIND_X: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
    pub(crate) const LOAD_BYTE_BEHIND_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
    pub(crate) const LOAD_HEADER_LEN_TO_X: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    pub(crate) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

    /// Where the kernel tells for whom a frame is, in place of an offset.
    pub(crate) const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;

    pub(crate) fn instruction(code: u16, operand: u32) -> SockFilter {
        SockFilter::new(code, 0, 0, operand)
    }

    pub(crate) fn jump(value: u32, equal: u8, other: u8) -> SockFilter {
        SockFilter::new(JUMP_EQUAL, equal, other, value)
    }

    pub(crate) fn jump_any_bit(bits: u32, any: u8, none: u8) -> SockFilter {
        SockFilter::new(JUMP_ANY_BIT, any, none, bits)
    }
}
