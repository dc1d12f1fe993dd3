//! What is known of makers.

/// How a maker's BMCs differ.
#[derive(Debug)]
pub(super) struct Quirks {
    /// A part of `Manufacturer`, in lower case.
    maker: &'static str,
    /// The words for "off and on" of a machine that is on, the best one first.
    pub(super) cycle: &'static [&'static str],
}

/// Everybody else. A restart keeps the boot override of machines whose BMC forgets it when the power goes.
const OTHERS: Quirks = Quirks { maker: "", cycle: &["ForceRestart", "PowerCycle", "GracefulRestart"] };

const TABLE: [Quirks; 1] = [
    // Its hypervisor has to shut down in order: the BMC names ForceRestart nowhere, and refuses it.
    Quirks { maker: "ibm", cycle: &["PowerCycle", "GracefulRestart"] },
];

impl Quirks {
    /// Those of a maker.
    pub(super) fn of(maker: Option<&str>) -> &'static Self {
        let maker = maker.unwrap_or_default().to_lowercase();
        TABLE.iter().find(|quirks| maker.contains(quirks.maker)).unwrap_or(&OTHERS)
    }
}
