//! Why a machine did not boot: each cause is brought about on the wire, and `xpxe why` has to name it with the steps that
//! show it. A boot that goes well gives "boots".

mod cases;
mod files;
mod healthy;
mod network;
mod scene;
mod states;
mod switches;
mod system;
mod traces;

use boot_engine::diagnosis::Cause;

/// What has to be told apart, and the tests that bring it about.
const CAUSES: [(&str, &[&str]); 24] = [
    ("no DISCOVER ever", &["a_machine_that_is_not_answered_knows_why"]),
    ("not answered, and why", &["an_unknown_machine_that_is_ignored_is_told_the_setting"]),
    (
        "an OFFER that is not taken",
        &[
            "real_firmware_whose_offers_are_lost_takes_none",
            "a_switch_with_a_spanning_tree_is_evidence_and_told_once",
            "a_port_that_forwards_late_and_an_address_in_use_a_refusal_no_loader",
        ],
    ),
    ("a REQUEST to another server", &["another_server_that_wins_is_named_with_its_station"]),
    ("a NAK by a stranger", &["a_refusal_by_a_stranger_is_its_doing"]),
    ("no subnet for the relay", &["a_machine_that_is_not_answered_knows_why"]),
    ("an empty pool", &["a_machine_that_is_not_answered_knows_why"]),
    (
        "an answer from an unexpected address",
        &["a_relay_that_writes_to_another_address_gets_answers_from_an_unexpected_one"],
    ),
    ("beside a server that gives no address", &["beside_a_server_that_gives_no_address_a_proxy_says_so"]),
    ("another server's options 66 and 67", &["a_boot_file_of_the_other_server_is_in_the_way"]),
    ("an address and no file asked", &["an_address_without_a_file_and_a_file_that_is_not_there"]),
    (
        "a wrong name, or a file for another architecture",
        &[
            "an_address_without_a_file_and_a_file_that_is_not_there",
            "a_boot_file_for_another_machine_is_said_to_be_one",
        ],
    ),
    ("TFTP that stalls", &["which_packets_of_tftp_came_through_tells_what_is_on_the_way"]),
    ("a loader that never starts", &["a_loader_that_never_starts_and_an_ipxe_without_an_address"]),
    ("iPXE's DHCP fails", &["a_loader_that_never_starts_and_an_ipxe_without_an_address"]),
    ("iPXE loads itself", &["an_ipxe_that_is_given_itself_loads_itself_again_and_again"]),
    (
        "a script and no kernel",
        &[
            "a_script_without_a_kernel_a_missing_one_and_one_that_is_cut_off",
            "a_dead_upstream_is_a_kernel_that_is_not_there",
            "a_client_that_distrusts_the_certificate_says_so",
        ],
    ),
    ("a kernel that is cut off", &["a_script_without_a_kernel_a_missing_one_and_one_that_is_cut_off"]),
    ("a silent system", &["a_silent_system_and_a_loop_of_boots"]),
    ("a loop of boots", &["a_silent_system_and_a_loop_of_boots"]),
    (
        "a duplicate UUID or MAC",
        &[
            "two_machines_with_one_mac_are_found_by_their_uuids",
            "two_machines_with_one_uuid_that_boot_at_the_same_time_are_two",
            "a_port_that_forwards_late_and_an_address_in_use_a_refusal_no_loader",
        ],
    ),
    ("a boot from another server", &["another_server_that_wins_is_named_with_its_station"]),
    ("a slow boot", &["a_slow_part_of_a_boot_is_named_beside_the_earlier_ones"]),
    ("stuck in a state", &["a_machine_of_the_registry_is_told_what_it_waits_for_and_when_it_is_stuck"]),
];

/// The tests' own text.
const TESTS: [&str; 6] = [
    include_str!("network.rs"),
    include_str!("switches.rs"),
    include_str!("files.rs"),
    include_str!("system.rs"),
    include_str!("states.rs"),
    include_str!("healthy.rs"),
];

#[test]
fn each_of_these_has_a_test_that_is_there() {
    let tests = TESTS.concat();
    for (cause, names) in CAUSES {
        for name in names {
            assert!(tests.contains(&format!("#[test]\nfn {name}() ")), "{cause}: no test {name}");
        }
    }
}

/// A cause that is added needs a test that waits for it.
#[test]
fn each_cause_is_brought_about_by_a_test() {
    let tests = TESTS.concat();
    let names = Cause::ALL.iter().map(|cause| cause.name());
    let without: Vec<&str> = names.filter(|name| !tests.contains(&format!("\"{name}\""))).collect();
    assert!(without.is_empty(), "no test waits for {without:?}");
}
