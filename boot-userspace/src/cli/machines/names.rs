//! How machines are called.

use boot_engine::registry::Spec;

/// How a machine is called in a list: by its name, or else its first MAC, its UUID or its serial number.
pub(super) fn called(spec: &Spec) -> String {
    let Spec { name, mac, uuid, serial, .. } = spec;
    name.as_ref().or(mac.first()).or(uuid.as_ref()).or(serial.as_ref()).cloned().unwrap_or_default()
}
