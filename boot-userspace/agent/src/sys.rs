//! What the standard library has no function for.
#![allow(unsafe_code, reason = "ioctls and socket options; each block says why it is sound")]

use std::fs::File;
use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

mod raw {
    nix::ioctl_read!(block_size, 0x12, 114, u64);
    nix::ioctl_none!(flush_buffers, 0x12, 97);
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(zero_out, nix::request_code_none!(0x12, 127), [u64; 2]);
    nix::ioctl_readwrite!(nvme_admin, b'N', 0x41, super::NvmeCommand);
    nix::ioctl_none!(nvme_id, b'N', 0x40);
    // IPMICTL_SEND_COMMAND and IPMICTL_RECEIVE_MSG_TRUNC.
    nix::ioctl_readwrite_bad!(
        ipmi_send,
        nix::request_code_read!(b'i', 13, size_of::<super::IpmiRequest>()),
        super::IpmiRequest
    );
    nix::ioctl_readwrite!(ipmi_receive, b'i', 11, super::IpmiAnswer);
    nix::ioctl_readwrite_bad!(get_flags, libc::SIOCGIFFLAGS as libc::Ioctl, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS as libc::Ioctl, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR as libc::Ioctl, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_mask, libc::SIOCSIFNETMASK as libc::Ioctl, libc::ifreq);
    nix::ioctl_write_ptr_bad!(add_route, libc::SIOCADDRT as libc::Ioctl, libc::rtentry);
}

/// `struct nvme_admin_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    data: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

impl NvmeCommand {
    /// A command to one namespace.
    pub(crate) fn new(opcode: u8, namespace: u32, cdw10: u32, timeout_ms: u32) -> Self {
        Self { opcode, namespace, cdw10, timeout_ms, ..Self::default() }
    }
}

/// The size of a block device in bytes.
pub(crate) fn block_size(device: &File) -> io::Result<u64> {
    let mut size = 0;
    // SAFETY: the kernel writes one u64 to where `size` is.
    unsafe { raw::block_size(device.as_raw_fd(), &mut size) }?;
    Ok(size)
}

/// Has what is read next come from the device.
pub(crate) fn forget_buffers(device: &File) {
    // SAFETY: it takes no argument. A file that is no block device refuses it, and has the advice only.
    unsafe { raw::flush_buffers(device.as_raw_fd()) }.ok();
    nix::fcntl::posix_fadvise(device, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
}

/// Tells a disk that a range is not used any more.
pub(crate) fn discard(device: &File, from: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: the kernel reads two u64 from where the array is.
    unsafe { raw::discard(device.as_raw_fd(), &[from, bytes]) }?;
    Ok(())
}

/// Has a range read as zeros, by the quickest means of the disk.
pub(crate) fn zero_out(device: &File, from: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: the kernel reads two u64 from where the array is.
    unsafe { raw::zero_out(device.as_raw_fd(), &[from, bytes]) }?;
    Ok(())
}

/// The number of an NVMe namespace.
pub(crate) fn nvme_namespace(device: &File) -> io::Result<u32> {
    // SAFETY: it takes no argument, and gives the number as its result.
    let id = unsafe { raw::nvme_id(device.as_raw_fd()) }?;
    u32::try_from(id).map_err(io::Error::other)
}

/// Sends a command to an NVMe controller, with a buffer that it writes to.
pub(crate) fn nvme_admin(device: &File, command: NvmeCommand, buffer: &mut [u8]) -> io::Result<()> {
    let mut command = command;
    if !buffer.is_empty() {
        command.data = buffer.as_mut_ptr() as u64;
        command.data_len = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    }
    // SAFETY: the kernel writes at most `data_len` bytes to `data`, which is the buffer of that length, during the call.
    match unsafe { raw::nvme_admin(device.as_raw_fd(), &mut command) }? {
        0 => Ok(()),
        status => Err(io::Error::other(format!("the disk answers with status {status:#x}"))),
    }
}

/// A request about an interface.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros is a value of each of its parts.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENAMETOOLONG.into());
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    Ok(request)
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, byte) in data.iter_mut().skip(2).zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

/// Switches an interface on.
pub(crate) fn bring_up(socket: impl AsFd, name: &str) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    let mut request = request(name)?;
    // SAFETY: the kernel writes the flags into the request.
    unsafe { raw::get_flags(socket, &mut request) }?;
    // SAFETY: the flags are what the kernel has just written.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: the kernel reads the request.
    unsafe { raw::set_flags(socket, &request) }?;
    Ok(())
}

/// Gives an interface an address.
pub(crate) fn set_address(
    socket: impl AsFd,
    name: &str,
    address: Ipv4Addr,
    mask: Ipv4Addr,
) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    let mut request = request(name)?;
    request.ifr_ifru.ifru_addr = sockaddr(address);
    // SAFETY: the kernel reads the request, in which the address is one of IPv4.
    unsafe { raw::set_address(socket, &request) }?;
    request.ifr_ifru.ifru_netmask = sockaddr(mask);
    // SAFETY: the same.
    unsafe { raw::set_mask(socket, &request) }?;
    Ok(())
}

/// Adds the route to everywhere.
pub(crate) fn set_router(socket: impl AsFd, router: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all zeros is a value of each of its parts; no device is named.
    let mut route: libc::rtentry = unsafe { mem::zeroed() };
    route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = sockaddr(router);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the kernel reads the route, and no pointer in it is set.
    unsafe { raw::add_route(socket.as_fd().as_raw_fd(), &route) }?;
    Ok(())
}

/// Has a packet socket take the multicast frames of an interface.
pub(crate) fn all_multicast(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let length = mem::size_of_val(&request) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes from the request.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a packet socket to one protocol on one interface.
pub(crate) fn bind_packets(socket: BorrowedFd<'_>, interface: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all zeros is a value of each of its parts.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes from the address.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct ipmi_system_interface_addr` of linux/ipmi.h.
#[repr(C)]
struct IpmiAddress {
    kind: libc::c_int,
    channel: libc::c_short,
    lun: u8,
}

#[repr(C)]
pub(crate) struct IpmiMessage {
    netfn: u8,
    command: u8,
    length: u16,
    data: *mut u8,
}

/// `struct ipmi_req`.
#[repr(C)]
pub(crate) struct IpmiRequest {
    address: *mut u8,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: IpmiMessage,
}

/// `struct ipmi_recv`.
#[repr(C)]
pub(crate) struct IpmiAnswer {
    kind: libc::c_int,
    address: *mut u8,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: IpmiMessage,
}

/// IPMI_SYSTEM_INTERFACE_ADDR_TYPE, and the channel of the BMC itself.
const IPMI_SYSTEM: libc::c_int = 0x0c;
const IPMI_BMC: libc::c_short = 0x0f;
/// How long a BMC may take to answer, in milliseconds.
const IPMI_WAIT: u16 = 3000;

/// Sends a command to the BMC, and gives its answer.
pub(crate) fn ipmi(device: &File, netfn: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut address = IpmiAddress { kind: IPMI_SYSTEM, channel: IPMI_BMC, lun: 0 };
    let address_length = mem::size_of::<IpmiAddress>() as libc::c_uint;
    let mut data = data.to_vec();
    let length = u16::try_from(data.len()).map_err(io::Error::other)?;
    let mut request = IpmiRequest {
        address: (&raw mut address).cast(),
        address_length,
        id: 1,
        message: IpmiMessage { netfn, command, length, data: data.as_mut_ptr() },
    };
    // SAFETY: the kernel reads the request, its address and its data, which have the lengths that it says.
    unsafe { raw::ipmi_send(device.as_raw_fd(), &mut request) }?;
    let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::from(IPMI_WAIT))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut from = [0u8; 64];
    let mut buffer = [0u8; 256];
    let mut answer = IpmiAnswer {
        kind: 0,
        address: from.as_mut_ptr(),
        address_length: 64,
        id: 0,
        message: IpmiMessage { netfn: 0, command: 0, length: 256, data: buffer.as_mut_ptr() },
    };
    // SAFETY: the kernel writes the answer, and no more into its two buffers than the lengths that it says.
    unsafe { raw::ipmi_receive(device.as_raw_fd(), &mut answer) }?;
    Ok(buffer.get(..usize::from(answer.message.length)).unwrap_or_default().to_vec())
}
