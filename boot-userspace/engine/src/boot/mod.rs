//! What a machine boots: its boot file over DHCP, its kernel, and the iPXE script that fetches it.

mod agent;
mod asked;
pub mod choice;
pub mod documents;
pub mod esxi;
mod files;
mod grub;
mod hand_out;
pub mod level;
pub mod link;
pub mod loader_config;
mod loader_context;
pub mod loader_file;
mod no_script;
pub mod parameters;
pub mod plan;
mod pxelinux;
pub mod script;
mod server;
pub(crate) mod stage;
pub mod token;
pub mod told;
mod url;
pub mod variables;

pub use files::{BootFile, Loaders, SCRIPT, boot_file, class_name, is_url, named};
pub use hand_out::HandOut;
pub use server::Server;
pub use url::url;
