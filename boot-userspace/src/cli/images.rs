//! `xpxe images`: works on the store's files, beside the daemon or without one.

use std::fmt;
use std::io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::{ConfigFile, configuration};
use crate::daemon::log;
use crate::host::regular;
use crate::host::size::human_size;
use crate::http::admin::rfc3339;
use crate::images::{self, Ending, Progress, Record};
use boot_engine::config::{ImageName, ImageSource, Sha256Digest};

/// The bar is drawn so often.
const DRAWN: Duration = Duration::from_millis(200);
const BAR: usize = 30;

/// `xpxe images …`
#[derive(Debug, clap::Args)]
pub struct Images {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetches an image, or takes a file of this host; what was begun before goes on where it stopped
    Add {
        /// 1 to 128 letters, digits, '.', '_' and '-'
        name: ImageName,
        /// An http://, https:// or s3://BUCKET/KEY URL, or a file
        #[arg(value_name = "URL|FILE")]
        from: String,
        /// The digest that it has to have
        #[arg(long, value_name = "DIGEST")]
        sha256: Option<Sha256Digest>,
        /// A list with its digest, such as SHA256SUMS
        #[arg(long, value_name = "URL|FILE", conflicts_with = "sha256")]
        digests: Option<String>,
        /// It stays when others have to make room
        #[arg(long)]
        pin: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Shows every image
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Shows all that is known of an image
    Show {
        /// The image
        name: ImageName,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Reads images and compares them with their digests; ends with 1 when one is wrong
    Verify {
        /// The images [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<ImageName>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Takes images away
    Remove {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        names: Vec<ImageName>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Has images stay when others have to make room
    Pin {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        names: Vec<ImageName>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Lets images leave when others need room
    Unpin {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        names: Vec<ImageName>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Removes what no name needs, and what is too much for size in [images]
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl Images {
    pub(super) fn run(self) -> Result<ExitCode> {
        let _warnings = tracing::subscriber::set_default(log::warnings(std::io::stderr));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.verb.run())
    }
}

fn open(file: &ConfigFile) -> Result<Arc<images::Images>> {
    Ok(images::Images::new(&configuration::load(&file.config)?, Arc::new(log::events())))
}

impl Verb {
    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Add { name, from, sha256, digests, pin, file } => {
                let store = open(&file)?;
                let sha256 = match &digests {
                    Some(list) => Some(store.look_up(list, &from).await?),
                    None => sha256,
                };
                add(&store, &name, &from, sha256, pin).await?;
            }
            Self::List { json, file } => return list(&*open(&file)?, json),
            Self::Show { name, json, file } => {
                let store = open(&file)?;
                let shown = Shown::of(&store, &name, store.show(&name)?);
                if json {
                    say(format_args!("{}", serde_json::to_string_pretty(&shown)?));
                } else {
                    say_on(format_args!("{}", shown.in_full()));
                }
            }
            Self::Verify { names, file } => return verify(&*open(&file)?, names),
            Self::Remove { names, file } => {
                let store = open(&file)?;
                for name in names {
                    store.remove(&name)?;
                    say(format_args!("removed image {name}"));
                }
            }
            Self::Pin { names, file } => pin(&*open(&file)?, &names, true)?,
            Self::Unpin { names, file } => pin(&*open(&file)?, &names, false)?,
            Self::Gc { dry_run, file } => {
                let removed = open(&file)?.clean(dry_run)?;
                let verb = if dry_run { "would remove" } else { "removed" };
                removed.what.iter().for_each(|what| say(format_args!("{verb} {what}")));
                say(format_args!("{verb} {} in all", human_size(removed.bytes)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pin(store: &images::Images, names: &[ImageName], pinned: bool) -> Result<()> {
    for name in names {
        let says = match (store.pin(name, pinned)?, pinned) {
            (true, true) => "stays",
            (true, false) => "stays all the same: it is from a file, so nobody could bring it back",
            (false, _) => "may leave when others need room",
        };
        say(format_args!("image {name} {says}"));
    }
    Ok(())
}

async fn add(
    store: &Arc<images::Images>,
    name: &ImageName,
    from: &str,
    sha256: Option<Sha256Digest>,
    pin: bool,
) -> Result<()> {
    let mut bar = Bar::new();
    let record = if from.contains("://") {
        let mut source: ImageSource = from.parse().map_err(anyhow::Error::msg)?;
        if let (Some(one), Some(other)) = (source.sha256, sha256)
            && one != other
        {
            bail!("the URL says that the digest is {one}, and the option says {other}: give one of them");
        }
        source.sha256 = source.sha256.or(sha256);
        let was_known = store.show(name).is_ok();
        let ended = watch_end(store.add(name, source, pin)?, &mut bar).await;
        bar.end();
        if ended.is_err() && !was_known {
            // What has come of it stays for the next try.
            store.forget(name)?;
        }
        let ended = ended.with_context(|| match was_known {
            true => format!("image {name} stays what it was"),
            false => format!("image {name} was not added"),
        });
        if let Ending::Elsewhere = ended? {
            say(format_args!("another xpxe has fetched it meanwhile"));
        }
        store.show(name)?
    } else {
        let file = regular::open(Path::new(from)).with_context(|| {
            format!(
                "{from} cannot be read: name a file, or a URL that begins with https://, http:// or s3://"
            )
        })?;
        let record = store.import(name, &file, sha256, &mut |done, total| bar.draw(done, Some(total)));
        bar.end();
        record?
    };
    let digest = record.sha256.map_or_else(String::new, |digest| digest.to_string());
    say(format_args!("image {name}: {}, SHA-256 {digest}", human_size(record.size)));
    if record.expected.is_none() {
        say(format_args!(
            "nobody has said which digest it has to have: compare this one with what its publisher says"
        ));
    }
    say(format_args!("a profile boots it by kernel = \"image:{name}\""));
    Ok(())
}

async fn watch_end(mut progress: watch::Receiver<Progress>, bar: &mut Bar) -> Result<Ending> {
    loop {
        // Whatever comes or does not, the bar is drawn.
        timeout(DRAWN, progress.changed()).await.ok();
        let Progress { head, received, end, .. } = progress.borrow_and_update().clone();
        bar.draw(received, head.and_then(|head| head.total));
        if let Some(end) = end {
            return Ok(end?);
        }
    }
}

/// A bar on a terminal; nothing in a file.
struct Bar {
    is_terminal: bool,
    started: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    fn new() -> Self {
        Self { is_terminal: stderr().is_terminal(), started: Instant::now(), drawn: None }
    }

    fn draw(&mut self, done: u64, total: Option<u64>) {
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAWN);
        if self.is_terminal && (is_due || total == Some(done)) {
            self.drawn = Some(Instant::now());
            let line = line(done, total, self.started.elapsed());
            // A terminal that is gone is no reason to stop.
            write!(stderr(), "\r\x1b[K{line}").and_then(|()| stderr().flush()).ok();
        }
    }

    fn end(&mut self) {
        if self.drawn.take().is_some() {
            eprintln!();
        }
    }
}

fn line(done: u64, total: Option<u64>, took: Duration) -> String {
    let speed = human_size((done as f64 / took.as_secs_f64().max(0.001)) as u64);
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{}, {speed}/s", human_size(done));
    };
    let percent = usize::try_from(done.saturating_mul(100) / total).unwrap_or(100).min(100);
    let full = "#".repeat(percent * BAR / 100);
    format!("[{full:<BAR$}] {percent:>3} %  {} of {}, {speed}/s", human_size(done), human_size(total))
}

/// An image as it is shown.
#[derive(Serialize)]
struct Shown {
    name: String,
    state: &'static str,
    #[serde(flatten)]
    record: Record,
    last_used: Option<String>,
}

impl Shown {
    fn of(store: &images::Images, name: &ImageName, record: Record) -> Self {
        let state = store.state(name, &record);
        let record = Record { size: store.size_of(name, &record), pinned: record.stays(), ..record };
        let last_used = store.last_used(&record).map(|time| rfc3339(time.as_secs()));
        Self { name: name.to_string(), state, record, last_used }
    }

    fn in_full(&self) -> String {
        let Record { url, expected, sha256, size, pinned, etag, modified, fetched, checked, trouble } =
            &self.record;
        let time = |seconds: u64| (seconds > 0).then(|| rfc3339(seconds));
        let lines = [
            ("name", Some(self.name.clone())),
            ("state", Some(self.state.to_owned())),
            ("size", Some(format!("{} ({size} bytes)", human_size(*size)))),
            ("sha256", sha256.map(|digest| digest.to_string())),
            ("expected", Some(expected.map_or_else(|| "anything".to_owned(), |digest| digest.to_string()))),
            ("from", Some(url.as_ref().map_or_else(|| "a file".to_owned(), |url| images::shown(url)))),
            (
                "pinned",
                Some(
                    match (url, pinned) {
                        (None, _) => "yes, it has no upstream",
                        (Some(_), true) => "yes",
                        (Some(_), false) => "no",
                    }
                    .to_owned(),
                ),
            ),
            ("fetched", time(*fetched)),
            ("compared", time(*checked).filter(|_| expected.is_none() && url.is_some())),
            ("last used", self.last_used.clone()),
            ("etag", etag.clone()),
            ("modified", modified.clone()),
            ("trouble", trouble.clone()),
        ];
        let lines = lines.into_iter().filter_map(|(what, value)| Some(format!("{what:<10} {}\n", value?)));
        lines.collect()
    }
}

fn list(store: &images::Images, json: bool) -> Result<ExitCode> {
    let mut shown = Vec::new();
    let mut broken = Vec::new();
    for (name, record) in store.list()? {
        match record {
            Ok(record) => shown.push(Shown::of(store, &name, record)),
            Err(error) => broken.push(error),
        }
    }
    if json {
        say(format_args!("{}", serde_json::to_string_pretty(&shown)?));
    } else {
        let width = shown.iter().map(|shown| shown.name.len()).max().unwrap_or(0).max(4);
        say(format_args!(
            "{:width$}  {:>10}  {:12}  {:6}  {:19}  FROM",
            "NAME", "SIZE", "SHA256", "PINNED", "STATE"
        ));
        for Shown { name, state, record, .. } in &shown {
            let digest = record.sha256.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
            let digest = digest.get(..12).unwrap_or(&digest);
            let from = record.url.as_ref().map_or_else(|| "a file".to_owned(), |url| images::shown(url));
            let (size, pinned) = (human_size(record.size), if record.pinned { "yes" } else { "no" });
            say(format_args!("{name:width$}  {size:>10}  {digest:12}  {pinned:6}  {state:19}  {from}"));
        }
    }
    broken.iter().for_each(|error| eprintln!("xpxe: {error}"));
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

fn verify(store: &images::Images, names: Vec<ImageName>) -> Result<ExitCode> {
    let names =
        if names.is_empty() { store.list()?.into_iter().map(|(name, _)| name).collect() } else { names };
    let mut is_bad = false;
    for name in names {
        match store.verify(&name) {
            Ok(Some(true)) => say(format_args!("{name}: right")),
            Ok(None) if store.show(&name).is_ok_and(|record| !record.is_expected()) => say(format_args!(
                "{name}: what is here is not what it has to be; that is fetched when a machine asks for it"
            )),
            Ok(None) => say(format_args!("{name}: not here, it is fetched when a machine asks for it")),
            Ok(Some(false)) => {
                is_bad = true;
                say(format_args!(
                    "{name}: WRONG, it was changed on disk; fetch it anew by: xpxe images add {name} URL"
                ));
            }
            Err(error) => {
                is_bad = true;
                say(format_args!("{name}: {error}"));
            }
        }
    }
    Ok(ExitCode::from(u8::from(is_bad)))
}

/// Writes a line. Whoever reads may have had enough, as `head` has.
fn say(line: fmt::Arguments<'_>) {
    say_on(format_args!("{line}\n"));
}

fn say_on(text: fmt::Arguments<'_>) {
    if let Err(error) = stdout().write_fmt(text) {
        // A full disk behind `>` is a failure.
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}

#[cfg(test)]
mod tests {
    use boot_engine::config::Config;

    use super::*;

    #[tokio::test]
    async fn an_image_from_a_file_is_pinned_for_people_and_programs() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::empty() };
        let store = images::Images::new(&config, Arc::new(()));
        let shown = Shown::of(&store, &"debian".parse().unwrap(), Record::default());
        assert_eq!(serde_json::to_value(&shown).unwrap()["pinned"], true);
        assert!(shown.in_full().contains("yes, it has no upstream"), "{}", shown.in_full());
    }

    #[test]
    fn the_bar_says_how_far_it_is() {
        let took = Duration::from_secs(2);
        assert_eq!(line(5_000_000, None, took), "5.0 MB, 2.5 MB/s");
        let half = line(5_000_000, Some(10_000_000), took);
        assert_eq!(half, "[###############               ]  50 %  5.0 MB of 10.0 MB, 2.5 MB/s");
        assert!(line(10, Some(10), took).starts_with(&format!("[{}] 100 %", "#".repeat(BAR))));
        assert!(line(20, Some(10), Duration::ZERO).contains("100 %"), "an upstream that sends more");
    }
}
