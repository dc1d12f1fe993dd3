//! What a machine boots: its boot file over DHCP, its kernel, and the iPXE script that fetches it.

mod asked;
pub mod choice;
pub mod documents;
mod files;
pub mod link;
pub mod plan;
pub mod script;
mod server;
mod url;
pub mod variables;

pub use files::{BootFile, Loaders, SCRIPT, boot_file, class_name, is_url, named};
pub use server::Server;
