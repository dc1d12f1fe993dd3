//! Where log lines go and what they look like.

mod addresses;
pub(in crate::daemon) mod answers;
pub(in crate::daemon) mod captured;
mod network;
mod registered;
mod text;
mod whose;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::limit::Limit;
use super::request::EventStream;
use crate::host::stderr;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Starts logging to standard error; `RUST_LOG` filters it, else `is_verbose` says whether there is more than usual. Gives the
/// limit that it can be put under, and what has to be dropped last.
pub fn start(format: LogFormat, is_verbose: bool) -> (Limit, WorkerGuard) {
    let limit = Limit::default();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(if is_verbose {
            "info,xpxe=debug,boot_userspace=debug,boot_engine=debug"
        } else {
            "info"
        })
    });
    let (lines, guard) = stderr::lines();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_target(false);
    match format {
        LogFormat::Json => log.json().flatten_event(true).finish().with(limit.clone()).init(),
        LogFormat::Text => {
            log.with_ansi(std::io::stderr().is_terminal()).finish().with(limit.clone()).init();
        }
    }
    (limit, guard)
}

/// A stream of events that the log has its lines of.
#[must_use]
pub fn events() -> EventStream {
    EventStream::new(text::write)
}

/// Warnings and errors only, for people: what a verb that is no daemon has to say beside its answer.
pub fn warnings(to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(to)
        .finish()
}
