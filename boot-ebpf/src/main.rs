//! The kernel half's two entry points. Each wraps its packet as a [`Frame`](boot_common::frame::Frame),
//! calls [`respond`], and turns the outcome into the hook's verdict. No decision is made here.
#![no_std]
#![no_main]
#![feature(adt_const_params, core_intrinsics)]
#![allow(internal_features, reason = "compare-and-exchange: see maps.rs")]
#![expect(unsafe_code, reason = "raw contexts and map values come from the kernel")]

mod bound;
mod maps;
mod option_scan;
mod skb;
mod xdp;

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::debug;
use boot_common::Reason;
use boot_common::frame::Frame;
use boot_common::respond::{Answered, respond};
use boot_common::tables::Hook;
use boot_common::tftp::Transfers as _;

use crate::maps::Maps;

/// `TCX_NEXT`: the next program on the interface, and in the end the stack, gets the packet.
const TCX_NEXT: i32 = -1;

/// Ingress on a driver's buffer.
#[xdp]
fn xpxe_xdp(ctx: XdpContext) -> u32 {
    let ifindex = ctx.ingress_ifindex() as u32;
    match run(&mut xdp::XdpFrame::new(&ctx), Hook::Xdp, ifindex) {
        Ok(answered) => {
            debug!(&ctx, "xdp answered: reason {}", answered.reason.index());
            if answered.reason == Reason::TftpDone { xdp_action::XDP_DROP } else { xdp_action::XDP_TX }
        }
        Err(Reason::StoreFailed | Reason::TftpRace | Reason::Ignored) => xdp_action::XDP_DROP,
        Err(_) => xdp_action::XDP_PASS,
    }
}

/// Ingress on an skb: for interfaces whose driver has no XDP, and for frames that XDP cannot make longer.
#[classifier]
fn xpxe_tc(ctx: TcContext) -> i32 {
    // SAFETY: the kernel passes a valid __sk_buff; both fields may be read at this hook.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let mut frame = skb::SkbFrame::new(&ctx);
    // XDP sees the tag in place of the EtherType; at TC the bytes look like those of an untagged frame.
    if frame.is_tagged() {
        maps::count(Hook::Tc, Reason::NotOurs);
        return TCX_NEXT;
    }
    match run(&mut frame, Hook::Tc, ifindex) {
        Ok(answered) => {
            debug!(&ctx, "tc answered: reason {}", answered.reason.index());
            if answered.reason == Reason::TftpDone {
                return TC_ACT_SHOT;
            }
            // SAFETY: a helper call without pointers.
            unsafe { bpf_redirect(ifindex, 0) as i32 }
        }
        Err(Reason::StoreFailed | Reason::TftpRace | Reason::Ignored) => TC_ACT_SHOT,
        Err(_) => TCX_NEXT,
    }
}

/// Answers, counts, and tells the daemon.
#[inline(always)]
fn run<F: Frame>(frame: &mut F, hook: Hook, ifindex: u32) -> Result<Answered, Reason> {
    let scratch = maps::scratch().ok_or(Reason::StoreFailed)?;
    let outcome = respond(frame, scratch, &Maps, ifindex, || Maps.now());
    match outcome {
        Ok(answered) => {
            maps::count(hook, answered.reason);
            // The daemon reads a transfer's progress from its flight.
            if !matches!(answered.reason, Reason::TftpBlock | Reason::TftpDone) {
                maps::tell(&answered.event(scratch, hook, ifindex, Maps.now()));
            }
        }
        Err(reason) => maps::count(hook, reason),
    }
    outcome
}

/// The verifier proves that this is never reached.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers may be called from GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
