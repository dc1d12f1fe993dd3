//! How machines are called.

use boot_engine::registry::Spec;

/// How a machine is called in a list: by its name, or else its first MAC or its UUID.
pub(super) fn called(spec: &Spec) -> String {
    spec.name.as_ref().or(spec.mac.first()).or(spec.uuid.as_ref()).cloned().unwrap_or_default()
}
