//! Machines as Sidero Omni knows them: by their UUIDs, with labels that its machine classes select by.

use serde_json::json;

use super::names::called;
use crate::http::machines::Machine;

/// The label that has a machine's name. Its host name is the business of its cluster.
const NAME: &str = "name";

/// Resources for `omnictl apply -f`, one document (JSON, which YAML is) for each machine. Those without a UUID are named in a
/// comment: Omni would not know which ones are meant.
pub(super) fn omni(machines: &[Machine]) -> String {
    let mut text = String::new();
    for Machine { spec, .. } in machines {
        let Some(uuid) = &spec.uuid else {
            let mac = spec.mac.first().map_or("none", String::as_str);
            text += &format!(
                "# {} (MAC {mac}) is left out: it has no UUID; xpxe machines set NAME --uuid UUID\n",
                called(spec)
            );
            continue;
        };
        let mut labels = spec.labels.clone();
        if let Some(name) = &spec.name {
            labels.entry(NAME.to_owned()).or_insert_with(|| name.clone());
        }
        let resource = json!({
            "metadata": {
                "namespace": "default",
                "type": "MachineLabels.omni.sidero.dev",
                "id": uuid.to_ascii_lowercase(),
                "labels": labels,
            },
            "spec": {},
        });
        text += &format!("---\n{resource}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use boot_engine::registry::Spec;
    use serde_json::Value;

    use super::*;

    #[test]
    fn labels_and_the_name_go_to_the_uuid_and_who_has_none_is_named() {
        let machine = |spec| Machine {
            source: "registry".to_owned(),
            id: None,
            version: None,
            revision: None,
            spec,
            status: None,
            seen: None,
            inventory: None,
        };
        let known = Spec {
            name: Some("node1".to_owned()),
            uuid: Some("4C4C4544-0042-3510-8052-b4c04f4e3132".to_owned()),
            labels: [("role".to_owned(), "worker: \"a\"\nb".to_owned())].into(),
            ..Spec::default()
        };
        let unknown = Spec { mac: vec!["02:00:00:00:00:01".to_owned()], ..Spec::default() };
        let text = omni(&[machine(known), machine(unknown)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "---");
        let resource: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(resource["metadata"]["id"], "4c4c4544-0042-3510-8052-b4c04f4e3132");
        assert_eq!(resource["metadata"]["type"], "MachineLabels.omni.sidero.dev");
        let labels = json!({ "name": "node1", "role": "worker: \"a\"\nb" });
        assert_eq!(resource["metadata"]["labels"], labels);
        assert!(lines[2].starts_with("# 02:00:00:00:00:01 (MAC 02:00:00:00:00:01) is left out"), "{text}");
        assert_eq!(lines.len(), 3);
    }
}
