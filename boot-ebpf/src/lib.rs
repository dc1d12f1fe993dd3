//! Empty: boot-userspace build-depends on this crate only so that cargo rebuilds the kernel object.
#![no_std]
