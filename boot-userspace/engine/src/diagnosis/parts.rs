//! How long each part of a boot took.

use boot_common::class;

use super::boot::{Boot, Timed};
use super::steps::{Given, What};

/// Makes the enum, the list of all parts, and their words.
macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident $name:literal $says:literal)*) => {
        /// A part of a boot, which ends with what it is named after.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Part { $($(#[$doc])* $part,)* }

        impl Part {
            /// All of them, in their order.
            pub const ALL: [Self; [$(Self::$part),*].len()] = [$(Self::$part),*];

            /// Its label in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$part => $name,)* }
            }

            /// What goes on in it, in words.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Self::$part => $says,)* }
            }
        }
    };
}

parts! {
    /// From its first word to the firmware's address.
    Address "address" "the firmware's address"
    /// To the end of its boot file.
    Loader "loader" "the boot file"
    /// To iPXE's address.
    Ipxe "ipxe" "iPXE's start and its address"
    /// To its script.
    Script "script" "the boot script"
    /// To the end of its kernel and initrd.
    Kernel "kernel" "the kernel and its initrds"
    /// To the first sign of its operating system.
    System "system" "the operating system's start"
}

/// A part of a boot with its length.
#[derive(Clone, Copy, Debug)]
pub struct Took<'b> {
    /// Which.
    pub part: Part,
    /// In milliseconds.
    pub millis: u64,
    /// The step that it began with.
    pub from: &'b Timed,
    /// The step that it ended with.
    pub to: &'b Timed,
}

/// The part that ends with a step. A file that comes behind a script is the kernel, or an initrd.
fn ends(what: &What, has_script: bool) -> Option<Part> {
    use class::Stage;
    Some(match what {
        What::Answered { given: Given::Offer, .. } => return None,
        What::Answered { .. } | What::TookElsewhere { .. } => match what.class()?.stage {
            Stage::Os => Part::System,
            Stage::Ipxe | Stage::ReducedIpxe => Part::Ipxe,
            Stage::Rom => Part::Address,
        },
        What::TftpSent { .. } | What::FileSent { .. } if has_script => Part::Kernel,
        What::TftpSent { .. } | What::FileSent { .. } => Part::Loader,
        What::ScriptSent { .. } => Part::Script,
        What::DocumentSent { .. } | What::NoDocument { .. } | What::PhoneHome { .. } => Part::System,
        _ => return None,
    })
}

/// Whether a step is a sign of the operating system: with the first one all parts are over.
pub(super) fn is_system(what: &What) -> bool {
    ends(what, true) == Some(Part::System)
}

/// The parts of a boot, as far as it got. A part that a boot does without is part of the next one.
#[must_use]
pub fn parts(boot: &Boot) -> Vec<Took<'_>> {
    let mut ended: [Option<&Timed>; Part::ALL.len()] = [None; Part::ALL.len()];
    let mut furthest = None;
    let mut has_script = false;
    for step in &boot.steps {
        has_script |= matches!(step.what, What::ScriptSent { .. });
        let Some(part) = ends(&step.what, has_script) else { continue };
        // What comes again when the boot has got further is of no part; the kernel ends with its last file.
        let is_in_order = furthest.is_none_or(|furthest| part > furthest || (part, furthest) == LAST_FILE);
        if is_in_order && let Some(place) = ended.get_mut(part as usize) {
            *place = Some(step);
            furthest = Some(part);
        }
        if part == Part::System {
            break;
        }
    }
    let Some(mut from) = boot.steps.first() else { return Vec::new() };
    let mut begun = from.at;
    let mut all = Vec::new();
    for (part, to) in Part::ALL.into_iter().zip(ended) {
        let Some(to) = to else { continue };
        let end = to.at.max(if to.count == 1 { to.last } else { to.at });
        all.push(Took { part, millis: end.saturating_sub(begun), from, to });
        (from, begun) = (to, end);
    }
    all
}

const LAST_FILE: (Part, Part) = (Part::Kernel, Part::Kernel);

/// How long the parts of some boots usually take.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    /// In milliseconds, of each part.
    parts: [Vec<u64>; Part::ALL.len()],
    /// Of whole boots.
    whole: Vec<u64>,
}

impl Usual {
    /// Of these boots; those that did not get to their operating system do not count.
    pub fn of<'b>(boots: impl IntoIterator<Item = &'b Boot>) -> Self {
        let mut usual = Self::default();
        boots.into_iter().for_each(|boot| usual.add(boot));
        usual
    }

    /// Adds a boot, if it got to its operating system.
    pub fn add(&mut self, boot: &Boot) {
        let took = parts(boot);
        if took.last().is_none_or(|last| last.part != Part::System) {
            return;
        }
        self.whole.push(took.iter().map(|took| took.millis).sum());
        for took in took {
            if let Some(all) = self.parts.get_mut(took.part as usize) {
                all.push(took.millis);
            }
        }
    }

    /// How many boots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.whole.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// How long a whole boot takes, in milliseconds: the median.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        median(&self.whole)
    }

    /// How long a part takes, in milliseconds: the median.
    #[must_use]
    pub fn part(&self, part: Part) -> Option<u64> {
        median(self.parts.get(part as usize)?)
    }
}

fn median(all: &[u64]) -> Option<u64> {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// The upper bounds of a histogram's buckets, in milliseconds; one more has the rest.
pub const BUCKETS: [u64; 12] =
    [100, 250, 500, 1000, 2500, 5000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000];

/// How long the parts of boots took, of all boots since the start that got to their operating system.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Of each part: how many were in each bucket.
    counts: [[u64; BUCKETS.len() + 1]; Part::ALL.len()],
    /// Of each part: all together, in milliseconds.
    sums: [u64; Part::ALL.len()],
}

impl Histogram {
    pub(super) fn add(&mut self, boot: &Boot) {
        for Took { part, millis, .. } in parts(boot) {
            let bucket = BUCKETS.iter().position(|most| millis <= *most).unwrap_or(BUCKETS.len());
            if let Some(count) = self.counts.get_mut(part as usize).and_then(|of| of.get_mut(bucket)) {
                *count += 1;
            }
            if let Some(sum) = self.sums.get_mut(part as usize) {
                *sum += millis;
            }
        }
    }

    /// Of a part: how many took at most as long as each of [`BUCKETS`] says, how many there were, and their sum in
    /// milliseconds.
    #[must_use]
    pub fn of(&self, part: Part) -> ([u64; BUCKETS.len()], u64, u64) {
        let counts = self.counts.get(part as usize).copied().unwrap_or_default();
        let mut below = [0; BUCKETS.len()];
        let mut all = 0;
        for (position, count) in counts.into_iter().enumerate() {
            all += count;
            if let Some(below) = below.get_mut(position) {
                *below = all;
            }
        }
        (below, all, self.sums.get(part as usize).copied().unwrap_or(0))
    }
}
