//! The daemon: its start, its event loop, what may be asked of it, its log and its signals.

mod boots;
mod carry_out;
mod commits;
mod engine_events;
mod event_loop;
mod execute;
mod fast_path;
#[cfg(test)]
mod golden;
mod limit;
mod link_monitor;
mod listening;
pub mod log;
pub mod misfits;
mod notify;
mod operator;
mod parameters;
mod registry;
mod reload;
pub mod request;
mod served_link;
mod shares;
mod signals;
mod start;
mod tell;
mod unheard;
mod watch;
mod watched;
mod webhooks;

pub use event_loop::Daemon;
pub use limit::Limit;
pub use reload::Load;
pub use start::serve;
