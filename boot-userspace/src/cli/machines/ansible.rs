//! The names that machines and their labels have in Ansible's inventory.

use boot_engine::registry::Spec;

use super::names::called;

/// The host of a machine: Ansible has groups of these two names in every inventory.
pub(super) fn host_of(spec: &Spec) -> String {
    let host = called(spec);
    if matches!(host.as_str(), "all" | "ungrouped") { format!("machine_{host}") } else { host }
}

/// The group of a label. Names of groups do not begin with a digit, and those with `state_` are of states.
pub(super) fn group_of(key: &str, value: &str) -> String {
    let group = format!("{key}_{value}").replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let is_free = !group.starts_with(|c: char| c.is_ascii_digit())
        && !["state_", "label_"].iter().any(|taken| group.starts_with(taken));
    if is_free { group } else { format!("label_{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_ansible_has_or_does_not_take_are_others() {
        let host = |name: &str| host_of(&Spec { name: Some(name.to_owned()), ..Spec::default() });
        assert_eq!(["node1", "all", "ungrouped"].map(host), ["node1", "machine_all", "machine_ungrouped"]);
        for (key, value, group) in [
            ("role", "worker-1", "role_worker_1"),
            ("state", "ready", "label_state_ready"),
            ("label.state", "ready", "label_label_state_ready"),
            ("states", "ready", "states_ready"),
            ("7", "up", "label_7_up"),
        ] {
            assert_eq!(group_of(key, value), group);
        }
    }
}
