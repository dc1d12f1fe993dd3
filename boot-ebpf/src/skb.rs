//! A frame in an skb.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use boot_common::facts::OptionScan;
use boot_common::frame::Frame;
use boot_common::tftp::{CHUNK, Chunk, LONGEST_BLOCK};
use boot_common::wire::{MAX_FRAME, Request};

use crate::{bound, option_scan};

/// The TC view of a frame.
pub(crate) struct SkbFrame<'c> {
    ctx: &'c TcContext,
}

impl<'c> SkbFrame<'c> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'c TcContext) -> Self {
        Self { ctx }
    }

    /// The frame has a VLAN tag (IEEE 802.1Q), which the kernel has moved out of the bytes.
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        // SAFETY: the context is the one the kernel passed; the field may be read at this hook.
        unsafe { (*self.ctx.skb.skb).vlan_present != 0 }
    }
}

impl Frame for SkbFrame<'_> {
    const IS_XDP: bool = false;
    const COPIES: bool = true;
    const MAY_BE_UNFINISHED: bool = true;
    const SUMS_IF_NEEDED: bool = false;

    #[inline(always)]
    fn length(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn load(&self, length: u32, to: &mut Request) -> bool {
        let Some(length) = bound::length(length, MAX_FRAME as u32) else { return false };
        // SAFETY: the buffer has 2048 bytes, the helper checks the frame's.
        unsafe {
            bpf_skb_load_bytes(self.ctx.skb.skb.cast(), 0, core::ptr::from_mut(to).cast::<c_void>(), length)
                == 0
        }
    }

    #[inline(always)]
    fn load_part(&self, offset: u32, length: u32, to: &mut [u8; 1024], at: u32) -> bool {
        let Some(length) = bound::length(length, 511) else { return false };
        let at = bound::offset::<511>(at);
        // SAFETY: at + length is at most 1022; the helper checks the frame's length.
        unsafe {
            bpf_skb_load_bytes(
                self.ctx.skb.skb.cast(),
                offset,
                to.as_mut_ptr().add(at).cast::<c_void>(),
                length,
            ) == 0
        }
    }

    #[inline(always)]
    fn resize(&mut self, length: u32) -> bool {
        // SAFETY: no packet pointers are held.
        unsafe { bpf_skb_change_tail(self.ctx.skb.skb, length, 0) == 0 }
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, from: &[u8; N], length: u32) -> bool {
        let Some(length) = bound::length(length, N as u32) else { return false };
        // SAFETY: `from` has at least `length` bytes; the helper checks the frame's.
        unsafe {
            bpf_skb_store_bytes(self.ctx.skb.skb, offset, from.as_ptr().cast::<c_void>(), length, 0) == 0
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
            bpf_skb_store_bytes(self.ctx.skb.skb, offset, from.cast::<c_void>(), length, 0) == 0
        }
    }

    #[inline(always)]
    fn send_copy(&mut self) -> bool {
        // SAFETY: the context is the one the kernel passed; no packet pointers are held.
        unsafe {
            let ifindex = (*self.ctx.skb.skb).ifindex;
            bpf_clone_redirect(self.ctx.skb.skb, ifindex, 0) == 0
        }
    }

    #[inline(always)]
    fn scan(&self, _request: &Request, _scan: &mut OptionScan) {
        option_scan::all();
    }
}
