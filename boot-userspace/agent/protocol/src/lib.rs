//! What xpxe and its agent say to each other, as JSON over HTTP or HTTPS.
//!
//! The agent's kernel command line has a URL with a token in it. Below that URL are `inventory` (POST, an [`Inventory`]),
//! `task` (GET, a [`Task`]), `progress` (POST, a [`Progress`]) and `report` (POST, a form with `task`, `status` and `text`).

mod differences;
mod inventory;

pub use inventory::{Disk, Inventory, Lldp, MemoryModule, Nic, Processor, SCHEMA, System};

use serde::{Deserialize, Serialize};

/// The word of the kernel command line before the URL.
pub const KEY: &str = "xpxe.agent=";
/// The word before what the server is known by over HTTPS: `sha256:` and the digest of its public key (SubjectPublicKeyInfo).
pub const SERVER_KEY: &str = "xpxe.key=";

/// What the agent does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Task {
    /// Nothing yet: it asks again after so many seconds.
    Wait {
        /// Seconds.
        seconds: u32,
        /// Why, for its console.
        why: String,
    },
    /// Wipe all fixed disks.
    Wipe {
        /// How.
        method: Wipe,
        /// What the machine does when the report is taken.
        then: Then,
    },
    /// Write an image to a disk.
    Write {
        /// Where the image is, on the server that the agent has booted from.
        url: String,
        /// SHA-256 of what is fetched, as 64 hexadecimal digits.
        sha256: String,
        /// Serial number or name of the disk. Without one the machine has to have a single fixed disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<String>,
        /// What the machine does when the report is taken.
        then: Then,
    },
    /// Nothing more.
    End {
        /// What the machine does.
        then: Then,
        /// Why, for its console.
        why: String,
    },
}

/// How disks are wiped. Whatever the method is, a disk reads as zeros afterwards, or the wipe has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wipe {
    /// NVMe disks are formatted, other flash is discarded, then all of it is zeroed by the quickest means that the disk has.
    #[default]
    Auto,
    /// Discarded, then zeroed by the quickest means.
    Discard,
    /// NVMe format with user data erase, and a disk that cannot do that fails the wipe; then zeroed.
    Format,
    /// Zeros are written to every block.
    Overwrite,
}

/// How a machine ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It restarts.
    #[default]
    Reboot,
    /// It is off.
    PowerOff,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = AgentProgress))]
pub struct Progress {
    /// What is done, in a few words.
    pub text: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where nobody knows.
    pub of: u64,
}

impl Progress {
    /// The share that is done, in percent.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let percent = u128::from(self.done) * 100 / u128::from((self.of > 0).then_some(self.of)?);
        u64::try_from(percent.min(100)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_json_that_says_what_to_do() {
        let task = Task::Wipe { method: Wipe::Auto, then: Then::PowerOff };
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(text, "{\"do\":\"wipe\",\"method\":\"auto\",\"then\":\"power-off\"}");
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
        assert!(serde_json::from_str::<Task>("{\"do\":\"run\",\"command\":\"sh\"}").is_err());
    }

    #[test]
    fn progress_is_a_share_where_the_whole_is_known() {
        let of = |done, of| Progress { done, of, ..Progress::default() }.percent();
        assert_eq!([of(1, 0), of(0, 7), of(5, 10), of(u64::MAX, 1)], [None, Some(0), Some(50), Some(100)]);
    }
}
