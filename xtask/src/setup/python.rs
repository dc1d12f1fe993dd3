//! What others have written in Python and tests try xpxe with, out of Python's registry, each in a directory of its own.

use std::path::Path;

use anyhow::Result;

use crate::cmd::Cmd;

/// A package and those that it needs, with a file by which it is known to be there.
pub(super) struct Package {
    names: &'static [&'static str],
    file: &'static str,
}

/// An emulator of BMCs with Redfish.
pub(super) const SUSHY: Package = Package { names: &["sushy-tools==2.2.0"], file: "bin/sushy-emulator" };
/// What a collector of traces reads.
pub(super) const OTLP: Package = Package {
    names: &["opentelemetry-proto==1.45.2", "protobuf==7.36.2"],
    file: "opentelemetry/proto/collector/trace/v1/trace_service_pb2.py",
};
/// Asks an API what its document says that it may be asked, and what it says that it may not.
pub(super) const SCHEMATHESIS: Package =
    Package { names: &["schemathesis==4.32.5"], file: "bin/schemathesis" };

/// The package, if it is not there.
pub(super) fn missing(dir: &Path, package: &Package) -> Vec<String> {
    let names = package.names.iter().map(ToString::to_string);
    if dir.join(package.file).exists() { Vec::new() } else { names.collect() }
}

/// Fetches it, with what it needs.
pub(super) fn install(dir: &Path, packages: &[String]) -> Result<()> {
    let pip = Cmd::line(
        "python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target",
    );
    pip.arg(dir.to_string_lossy()).args(packages).run()
}
