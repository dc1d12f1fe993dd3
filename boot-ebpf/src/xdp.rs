//! A frame in a driver's buffer.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use boot_common::facts::OptionScan;
use boot_common::frame::Frame;
use boot_common::tftp::{CHUNK, Chunk, LONGEST_BLOCK};
use boot_common::wire::{MAX_FRAME, Request};

use crate::{bound, option_scan};

/// The XDP view of a frame.
pub(crate) struct XdpFrame<'c> {
    ctx: &'c XdpContext,
    length: u32,
}

impl<'c> XdpFrame<'c> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'c XdpContext) -> Self {
        // SAFETY: the context is the one the kernel passed.
        let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32;
        Self { ctx, length }
    }
}

impl Frame for XdpFrame<'_> {
    const IS_XDP: bool = true;
    const COPIES: bool = false;
    const MAY_BE_UNFINISHED: bool = false;
    const SUMS_IF_NEEDED: bool = false;

    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load(&self, length: u32, to: &mut Request) -> bool {
        let Some(length) = bound::length(length, MAX_FRAME as u32) else { return false };
        // SAFETY: the buffer has 2048 bytes, the helper checks the frame's.
        unsafe { bpf_xdp_load_bytes(self.ctx.ctx, 0, core::ptr::from_mut(to).cast::<c_void>(), length) == 0 }
    }

    #[inline(always)]
    fn load_part(&self, offset: u32, length: u32, to: &mut [u8; 1024], at: u32) -> bool {
        let Some(length) = bound::length(length, 511) else { return false };
        let at = bound::offset::<511>(at);
        // SAFETY: at + length is at most 1022; the helper checks the frame's length.
        unsafe {
            bpf_xdp_load_bytes(self.ctx.ctx, offset, to.as_mut_ptr().add(at).cast::<c_void>(), length) == 0
        }
    }

    #[inline(always)]
    fn resize(&mut self, length: u32) -> bool {
        // SAFETY: no packet pointers are held.
        let done = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, length as i32 - self.length as i32) == 0 };
        if done {
            self.length = length;
        }
        done
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, from: &[u8; N], length: u32) -> bool {
        let Some(length) = bound::length(length, N as u32) else { return false };
        // SAFETY: `from` has at least `length` bytes; the helper checks the frame's.
        unsafe {
            bpf_xdp_store_bytes(self.ctx.ctx, offset, from.as_ptr().cast_mut().cast::<c_void>(), length) == 0
        }
    }

    #[inline(always)]
    fn store_chunk(&mut self, offset: u32, chunk: &Chunk, from: u32, length: u32) -> bool {
        let from = bound::offset::<{ CHUNK as u32 - 1 }>(from);
        let Some(length) = bound::length(length, LONGEST_BLOCK as u32) else { return false };
        // SAFETY: `from` is in the chunk's first part, and behind it there is room for the longest block; the
        // helper checks the frame's length.
        unsafe {
            let from = chunk.bytes.as_ptr().add(from);
            bpf_xdp_store_bytes(self.ctx.ctx, offset, from.cast_mut().cast::<c_void>(), length) == 0
        }
    }

    #[inline(always)]
    fn send_copy(&mut self) -> bool {
        false
    }

    #[inline(always)]
    fn scan(&self, _request: &Request, _scan: &mut OptionScan) {
        option_scan::all();
    }
}
