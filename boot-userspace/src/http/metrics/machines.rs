//! What is counted of machines of the registry.

use super::Page;
use crate::daemon::request::Census;
use crate::http::machines::follower_counts;
use boot_engine::lifecycle::{Act, TIMES};

pub(super) fn of_machines(page: &mut Page, census: &Census) {
    page.family("xpxe_machines", "gauge", "Machines of the registry by state.");
    for (state, count) in &census.states {
        page.sample(&[("state", state.name())], *count as u64);
    }
    page.family(
        "xpxe_machine_state_seconds",
        "histogram",
        "How long machines of the registry were in the states that they have left.",
    );
    for (state, below, all, sum) in census.times.all() {
        let state = ("state", state.name());
        for (most, count) in TIMES.iter().zip(below) {
            page.part("_bucket", &[state, ("le", &most.to_string())], &count.to_string());
        }
        page.part("_bucket", &[state, ("le", "+Inf")], &all.to_string());
        page.part("_sum", &[state], &sum.to_string());
        page.part("_count", &[state], &all.to_string());
    }
    page.family(
        "xpxe_power_commands_total",
        "counter",
        "Commands to BMCs by what they were and how they ended.",
    );
    for (act, (done, failed)) in Act::ALL.into_iter().zip(census.power.commands) {
        page.sample(&[("command", act.name()), ("end", "done")], done);
        page.sample(&[("command", act.name()), ("end", "failed")], failed);
    }
    page.family(
        "xpxe_power_readings_total",
        "counter",
        "How often BMCs were asked whether their machine is on.",
    );
    let (read, failed) = census.power.readings;
    page.sample(&[("end", "read")], read);
    page.sample(&[("end", "failed")], failed);
    page.family(
        "xpxe_machines_overdue",
        "gauge",
        "Machines that are in their state for longer than its limit.",
    );
    page.sample(&[], census.overdue as u64);
    page.family(
        "xpxe_machines_not_served",
        "gauge",
        "Machines of the registry that have something of another machine or do not fit the configuration, so that they wait.",
    );
    page.sample(&[], census.shadowed as u64);
    let (followers, cut_off) = follower_counts();
    page.family("xpxe_machine_followers", "gauge", "Clients of the API that follow changes of machines.");
    page.sample(&[], followers as u64);
    page.family(
        "xpxe_machine_followers_cut_off_total",
        "counter",
        "Clients that followed changes of machines and read nothing for too long.",
    );
    page.sample(&[], cut_off);
    if let Some(database) = &census.database {
        page.family("xpxe_postgres_up", "gauge", "Whether PostgreSQL stores changes of machines.");
        page.sample(&[], u64::from(database.trouble.is_none()));
        page.family(
            "xpxe_postgres_leases_behind",
            "gauge",
            "Addresses whose leases PostgreSQL does not have yet.",
        );
        page.sample(&[], database.behind);
    }
}
