//! What a machine boots: its boot file over DHCP, its kernel, and the iPXE script that fetches it.

mod asked;
pub mod choice;
pub mod documents;
mod files;
mod origin;
pub mod plan;
pub mod script;
mod url;
pub mod variables;

pub use files::{BootFile, Loaders, SCRIPT, boot_file, class_name, is_url, named};
pub use origin::Origin;
