//! TFTP clients in the kernel: on the clients' interface every DATA packet becomes the ACK for it and goes back.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "raw contexts and map values come from the kernel")]

use core::ptr::read_volatile;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use bench_ebpf::{BLOCK, FIRST, LOOK_AT, MOST, MOST_BLOCKS, count};

/// The shortest frame on a real wire.
const SHORTEST: i32 = 60;
const ACK_OF_UDP: u16 = 12;
const ACK_OF_IP: u16 = 20 + ACK_OF_UDP;

#[map(name = "CLIENTS")]
static CLIENTS: Array<u64> = Array::with_max_entries(MOST, 0);
/// How each block begins.
#[map(name = "WORDS")]
static WORDS: Array<[u8; 8]> = Array::with_max_entries(MOST_BLOCKS + 1, 0);
#[map(name = "COUNTS")]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(count::ALL, 0);

/// The file's last block and its length; the loader sets them.
#[unsafe(no_mangle)]
static LAST_BLOCK: u32 = 0;
#[unsafe(no_mangle)]
static LAST_LENGTH: u32 = 0;

/// A frame up to TFTP's block number.
#[repr(C)]
struct Headers {
    to: [u8; 6],
    from: [u8; 6],
    kind: [u8; 2],
    ip: Ip,
    source_port: [u8; 2],
    port: [u8; 2],
    udp_length: [u8; 2],
    udp_sum: [u8; 2],
    opcode: [u8; 2],
    block: [u8; 2],
}

#[repr(C)]
struct Ip {
    version: [u8; 2],
    length: [u8; 2],
    fragment: [u8; 4],
    ttl: u8,
    protocol: u8,
    sum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[xdp]
fn tftp_clients(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + size_of::<Headers>() > ctx.data_end() {
        return XDP_PASS;
    }
    // SAFETY: the frame is that long, as was just seen, and every byte pattern is a Headers, of any alignment.
    let headers = unsafe { &mut *(start as *mut Headers) };
    if headers.kind != [8, 0] || headers.ip.version[0] != 0x45 || headers.ip.protocol != 17 {
        return XDP_PASS;
    }
    let number = u32::from_be_bytes(headers.ip.destination).wrapping_sub(FIRST);
    let Some(client) = CLIENTS.get_ptr_mut(number) else { return XDP_PASS };
    // SAFETY: the pointer is into the table, and a client has one frame under way.
    let state = unsafe { *client };
    let (port, expected) = ((state >> 32) as u16, state as u32);
    if port == 0 || u16::from_be_bytes(headers.port) != port {
        return XDP_PASS;
    }
    match headers.opcode {
        [0, 3] => {}
        // No server sends an ACK: the process put it in, to start this client or to let it go on.
        [0, 4] => return acknowledge(&ctx, headers),
        _ => return XDP_PASS,
    }
    let block = u16::from_be_bytes(headers.block);
    if block != expected as u16 {
        if block != expected.wrapping_sub(1) as u16 {
            add(count::STRAY, 1);
            return XDP_DROP;
        }
        // The server does not know that we have it.
        add(count::REPEATED, 1);
        return acknowledge(&ctx, headers);
    }
    let length = u32::from(u16::from_be_bytes(headers.udp_length)).wrapping_sub(u32::from(ACK_OF_UDP));
    if !is_right(&ctx, expected, length) {
        add(count::WRONG, 1);
        return XDP_DROP;
    }
    // SAFETY: as above.
    unsafe { *client = state + 1 };
    add(count::BLOCKS, 1);
    add(count::BYTES, u64::from(length));
    if expected == 1 || expected.is_multiple_of(LOOK_AT) || expected == last_block() {
        return XDP_PASS;
    }
    acknowledge(&ctx, headers)
}

/// Whether a block is as long as it must be, and begins as it must.
#[inline(always)]
fn is_right(ctx: &XdpContext, block: u32, length: u32) -> bool {
    // SAFETY: a constant, which only the loader changes.
    let last_length = unsafe { read_volatile(&raw const LAST_LENGTH) };
    if length != if block == last_block() { last_length } else { BLOCK } {
        return false;
    }
    if length < 8 {
        return true;
    }
    let start = ctx.data() + size_of::<Headers>();
    let Some(begins) = WORDS.get(block) else { return false };
    if start + 8 > ctx.data_end() {
        return false;
    }
    // SAFETY: the frame is that long, as was just seen.
    let found = unsafe { &*(start as *const [u8; 8]) };
    found == begins
}

#[inline(always)]
fn last_block() -> u32 {
    // SAFETY: a constant, which only the loader changes.
    unsafe { read_volatile(&raw const LAST_BLOCK) }
}

/// Makes the frame an ACK of its block and sends it back.
#[inline(always)]
fn acknowledge(ctx: &XdpContext, headers: &mut Headers) -> u32 {
    core::mem::swap(&mut headers.to, &mut headers.from);
    core::mem::swap(&mut headers.source_port, &mut headers.port);
    headers.udp_length = ACK_OF_UDP.to_be_bytes();
    // None, which IPv4 allows.
    headers.udp_sum = [0; 2];
    headers.opcode = [0, 4];
    let ip = &mut headers.ip;
    core::mem::swap(&mut ip.source, &mut ip.destination);
    ip.length = ACK_OF_IP.to_be_bytes();
    ip.sum = [0; 2];
    ip.sum = checksum(ip);
    // SAFETY: no pointer into the packet is used after this.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as i32;
    // SAFETY: as above.
    if length > SHORTEST && unsafe { bpf_xdp_adjust_tail(ctx.ctx, SHORTEST - length) } != 0 {
        add(count::STUCK, 1);
        return XDP_DROP;
    }
    XDP_TX
}

/// RFC 1071, whose sum may be taken in either byte order.
#[inline(always)]
fn checksum(ip: &Ip) -> [u8; 2] {
    let words = [
        ip.version,
        ip.length,
        [ip.fragment[0], ip.fragment[1]],
        [ip.fragment[2], ip.fragment[3]],
        [ip.ttl, ip.protocol],
        [ip.source[0], ip.source[1]],
        [ip.source[2], ip.source[3]],
        [ip.destination[0], ip.destination[1]],
        [ip.destination[2], ip.destination[3]],
    ];
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum();
    let once = (sum & 0xffff) + (sum >> 16);
    (!((once & 0xffff) + (once >> 16)) as u16).to_ne_bytes()
}

#[inline(always)]
fn add(what: u32, more: u64) {
    if let Some(value) = COUNTS.get_ptr_mut(what) {
        // SAFETY: the pointer is into this CPU's slot.
        unsafe { *value += more }
    }
}

/// The verifier proves that this is never reached.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
