//! What another server says that a machine boots, where the configuration leaves it to that server: pixiecore's API.

/// Its answer about one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Boot this.
    Boot {
        /// URLs that the machine fetches.
        kernel: String,
        /// The same, in the order in which the kernel gets them.
        initrds: Vec<String>,
        /// The kernel's arguments.
        args: String,
        /// For the machine's console; may be empty.
        message: String,
    },
    /// Run this script of iPXE's.
    Script(String),
    /// Leave the machine alone: says why.
    No(String),
    /// It has not answered so that anybody could understand it: says why. The machine asks again.
    Unknown(String),
}
