//! The programs that run in the kernel: shells around `mesh-ebpf-logic`.
//!
//! In: packets at a device's ingress ([`tc`]) and egress ([`nat`]), to and from
//! other nodes ([`tunnel`]), past the stack ([`deliver`]), lookups of listeners ([`sk_lookup`]), socket calls
//! ([`sock_addr`]). Out: verdicts, packets assigned to the proxy's sockets, rewritten addresses, counts and
//! events. Each program reads its context, asks the logic, carries the verdict out and counts it, once.
#![no_std]
#![no_main]

mod constants;
mod deliver;
mod events;
mod maps;
mod nat;
mod sk_lookup;
mod sock_addr;
mod sockets;
mod tc;
mod tunnel;

/// Several helpers (socket lookup and assignment among them) are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: no program has a panicking path. If one had, the verifier would refuse this loop.
    loop {}
}
