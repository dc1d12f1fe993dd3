//! Leases over a restart.

use anyhow::{Result, ensure};
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, UNKNOWN, known};
use dhcproto::v4::MessageType;
use nix::sys::signal::Signal;

#[test]
fn a_restart_loses_no_lease_even_with_the_kernel_half_gone() -> Result<()> {
    keeps_leases(Signal::SIGTERM)
}

#[test]
fn a_kill_loses_no_lease_even_with_the_kernel_half_gone() -> Result<()> {
    keeps_leases(Signal::SIGKILL)
}

fn keeps_leases(end: Signal) -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let clients: Vec<_> = (0..5u8).map(|n| Client::new([2, 0x77, 0, 0, 1, n])).collect();
    let leases: Vec<_> = clients.iter().map(|client| wire.lease(client)).collect::<Result<_>>()?;
    if end == Signal::SIGKILL {
        xpxe.kill9()?;
    } else {
        xpxe.stop()?;
    }
    place.detach(&xpxe)?;
    xpxe.restart()?;
    let newcomer = wire.lease(&Client::new(mac(UNKNOWN)?))?;
    for (client, lease) in clients.iter().zip(&leases).rev() {
        ensure!(newcomer.address() != lease.address(), "{} has two owners", lease.address());
        let offer = wire.discover(client)?;
        ensure!(
            offer.address() == lease.address(),
            "had {}, is offered {}",
            lease.address(),
            offer.address()
        );
        let ack = wire.ask(&client.request(&offer), MessageType::Ack)?;
        ensure!(ack.address() == lease.address(), "had {}, got {}", lease.address(), ack.address());
    }
    xpxe.stop()
}
