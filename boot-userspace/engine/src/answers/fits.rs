//! Whether the options of a configuration fit the answers that firmware gets: for `xpxe check`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use boot_common::class::{Class, Firmware, Stage};
use boot_common::decide::message;
use boot_common::tables::ANSWER_OPTIONS;

use crate::answers::prepare::{Parts, prepare};
use crate::answers::sets::no_room;
use crate::config::{Config, Subnet};
use crate::machines::Machines;
use crate::policy::{Differences, Policy};

/// What is left for options in the 576 bytes that every client takes (RFC 2131 section 2), beside headers, UUID, client
/// identifier and END.
const IN_THE_SMALLEST: usize = 576 - 20 - 8 - 240 - 19 - 9 - 1;

/// Sentences about options that firmware does not get for want of room. What operating systems get depends on what they
/// ask for.
#[must_use]
pub fn left_out(config: &Arc<Config>) -> Vec<String> {
    let machines = match Machines::new(config.machines.iter().cloned()) {
        Ok(machines) => machines,
        Err(conflict) => return vec![conflict.to_string()],
    };
    let loader = |_| Ok("snponly.efi".to_owned());
    let policy = Policy::new(Arc::clone(config), machines, Vec::new(), loader);
    let subnets: Vec<Option<&Subnet>> = match &config.subnets[..] {
        [] => vec![None],
        subnets => subnets.iter().map(Some).collect(),
    };
    let mut said = Vec::new();
    for (who, differences, address) in policy.every_difference() {
        let is_there = |subnet: &&Option<&Subnet>| match (subnet, address) {
            (Some(subnet), Some(address)) => subnet.cidr.contains(&address),
            _ => true,
        };
        for subnet in subnets.iter().filter(is_there) {
            if let Some(sentence) = sentence(&policy, &who, &differences, *subnet)
                && !said.contains(&sentence)
            {
                said.push(sentence);
            }
        }
    }
    said
}

fn sentence(
    policy: &Policy,
    who: &str,
    differences: &Differences,
    subnet: Option<&Subnet>,
) -> Option<String> {
    let class = Class { firmware: Firmware::EfiX64, stage: Stage::Rom };
    // As long as addresses can be.
    let server = Ipv4Addr::new(255, 255, 255, 255);
    let boot = policy.boot_file(class, SocketAddrV4::new(server, 65535), differences, subnet).ok()?;
    let custom = policy.options(differences, subnet, class);
    let left_out = |room: usize| {
        let parts = Parts {
            class,
            message: message::OFFER,
            subnet,
            server,
            boot: boot.as_ref(),
            custom: &custom,
            wanted: None,
            room,
        };
        prepare(&parts).map_or_else(
            |error| Some(error.to_string()),
            |prepared| match &prepared.left_out[..] {
                [] => None,
                codes => Some(no_room(codes)),
            },
        )
    };
    let place = subnet.map_or_else(String::new, |subnet| format!("subnet {}", subnet.cidr));
    let place =
        [place.as_str(), who].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let (what, whose) = match (left_out(ANSWER_OPTIONS), left_out(IN_THE_SMALLEST)) {
        (Some(what), _) => (what, "in every answer to firmware"),
        (None, Some(what)) => (what, "in answers to firmware that takes messages of 576 bytes only"),
        (None, None) => return None,
    };
    Some(format!("{place}: {what} {whose}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(subnet: &str, profile: &str, machine: &str) -> Vec<String> {
        let config = format!(
            "[[interface]]\nname = \"eth1\"\n[[subnet]]\ncidr = \"10.1.0.0/16\"\npool = [\"10.1.1.1\"]\nrouter = \"10.1.0.1\"\n{subnet}\n\
             [[profile]]\nname = \"linux\"\nkernel = \"k\"\n{profile}\n\
             [[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\nprofile = \"linux\"\n{machine}\n"
        );
        left_out(&Arc::new(crate::config::parse(&config, "test").unwrap()))
    }

    fn option(code: u8, length: usize) -> String {
        format!("options = [{{ code = {code}, text = \"{}\" }}]", "x".repeat(length))
    }

    #[test]
    fn what_fits_is_not_said() {
        assert!(said("", "", "").is_empty());
        assert!(said(&option(224, 20), &option(225, 20), &option(226, 20)).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        assert_eq!(
            said(&option(224, 245), "", ""),
            [
                "subnet 10.1.0.0/16: option 224 has no room and is left out in answers to firmware that takes messages of \
              576 bytes only"
            ]
        );
        assert_eq!(
            said("", &option(225, 700), ""),
            [
                "subnet 10.1.0.0/16, profile linux: option 225 has no room and is left out in every answer to firmware"
            ]
        );
        let both = said("", &option(225, 400), &option(226, 400));
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[1].starts_with("subnet 10.1.0.0/16, node1: option 225 has no room"), "{both:?}");
    }
}
