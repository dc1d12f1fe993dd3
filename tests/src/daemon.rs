//! xpxe itself, as a process in the rack's server namespace.
//!
//! It runs as `xpxe serve --config FILE --log-format json …` and is ready when it logs the message `ready`.
//! The binary is `XPXE_BIN`, or the newer of `target/release/xpxe` and `target/debug/xpxe` beside the running
//! test. Every line it writes that is a JSON object is an [`Event`]; any other line (a panic, say) is an
//! event with that line as its message.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::{Line, Process, ending};
use crate::rack::Rack;
use crate::wait::eventually_some;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// One line of xpxe's log.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was written.
    pub at: Instant,
    /// The whole event.
    pub json: Value,
}

impl Event {
    pub(crate) fn parse(started: Instant, line: &Line) -> Self {
        let json = serde_json::from_str(&line.text).ok().filter(Value::is_object);
        let json = json.unwrap_or_else(|| serde_json::json!({ "message": line.text }));
        Self { at: started + line.at, json }
    }

    /// A field as text; empty if the event does not have it.
    pub fn field(&self, name: &str) -> String {
        match self.json.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The message.
    pub fn message(&self) -> String {
        self.field("message")
    }
}

/// A running xpxe; killed when dropped.
#[derive(Debug)]
pub struct Xpxe<'rack> {
    rack: &'rack Rack,
    binary: PathBuf,
    arguments: Vec<String>,
    process: Process,
    earlier_log: Vec<Event>,
}

impl<'rack> Xpxe<'rack> {
    /// Starts it with a configuration and further arguments, and waits until it is ready.
    pub fn start(rack: &'rack Rack, config_toml: &str, extra_args: &[&str]) -> Result<Self> {
        let config = rack.dir().join("xpxe.toml");
        fs::write(&config, config_toml)?;
        let mut arguments = vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string()];
        arguments.extend(["--log-format", "json"].iter().chain(extra_args).map(|&text| text.to_owned()));
        let binary = binary()?;
        let process = launch(rack, &binary, &arguments)?;
        Ok(Self { rack, binary, arguments, process, earlier_log: Vec::new() })
    }

    /// Starts another verb that serves, through the command `by`, with more in its environment, and waits until it is ready.
    pub fn start_verb(
        rack: &'rack Rack,
        by: &[&str],
        verb: &str,
        words: &[&str],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let binary = binary()?;
        let first = binary.display().to_string();
        let first_words = [verb, "--log-format", "json"];
        let arguments: Vec<String> = first_words.iter().chain(words).map(|&word| word.to_owned()).collect();
        let mut all = by.iter().map(|&word| word.to_owned()).chain([first]).chain(arguments.iter().cloned());
        let mut command = rack.server.command(&all.next().context("a command")?);
        command.args(all).envs(environment.iter().cloned());
        let process = rack.server.spawn(command)?;
        wait_until_ready(&process)?;
        Ok(Self { rack, binary, arguments, process, earlier_log: Vec::new() })
    }

    /// The binary that runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Every event so far, those of earlier runs of this object too.
    pub fn log(&self) -> Vec<Event> {
        let started = self.process.started();
        let current = self.process.lines().into_iter().map(|line| Event::parse(started, &line));
        self.earlier_log.iter().cloned().chain(current).collect()
    }

    /// Waits for an event, past or future, that satisfies `wanted`; `what` is its name in the error.
    pub fn wait_for_event(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        eventually_some(within, what, || self.log().into_iter().find(&wanted))
            .with_context(|| format!("xpxe's last lines:\n{}", self.last_lines(30)))
    }

    /// The last lines as they were written.
    pub fn last_lines(&self, count: usize) -> String {
        crate::netns::tail(&self.process.lines(), count)
    }

    /// Stops it as systemd would; an exit code other than 0 is an error.
    pub fn stop(&self) -> Result<()> {
        let status: ExitStatus = self.process.terminate(STOP)?;
        anyhow::ensure!(status.success(), "xpxe ended with {}:\n{}", ending(status), self.last_lines(30));
        Ok(())
    }

    /// Kills it without a warning.
    pub fn kill9(&self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Stops it if it runs, starts it again with the same arguments, and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        if self.is_running() {
            self.stop()?;
        }
        self.earlier_log = self.log();
        self.process = launch(self.rack, &self.binary, &self.arguments)?;
        Ok(())
    }

    /// Starts it again after [`Xpxe::kill9`], waits for nothing and forgets what it logged so far: for tests that do
    /// this a hundred times.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(self.rack, &self.binary, &self.arguments)?;
        self.earlier_log.clear();
        Ok(())
    }

    /// Waits until the process of [`Xpxe::start_again`] is ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_until_ready(&self.process)
    }

    /// Replaces the configuration for the next [`Xpxe::restart`] (or SIGHUP).
    pub fn write_config(&self, config_toml: &str) -> Result<()> {
        Ok(fs::write(self.rack.dir().join("xpxe.toml"), config_toml)?)
    }

    /// Runs another `xpxe` command in the server's namespace and gives its standard output.
    pub fn command(&self, args: &[&str]) -> Result<String> {
        self.rack.server.output(&self.binary.display().to_string(), args)
    }
}

impl Drop for Xpxe<'_> {
    /// A test that ends with xpxe still running has failed, as a rule: the log says why.
    fn drop(&mut self) {
        if self.is_running() {
            println!("xpxe still ran when the test ended; its last lines:\n{}", self.last_lines(60));
        }
    }
}

fn launch(rack: &Rack, binary: &Path, arguments: &[String]) -> Result<Process> {
    let process = spawn(rack, binary, arguments)?;
    wait_until_ready(&process)?;
    Ok(process)
}

fn spawn(rack: &Rack, binary: &Path, arguments: &[String]) -> Result<Process> {
    let mut command = rack.server.command(&binary.display().to_string());
    command.args(arguments);
    rack.server.spawn(command)
}

fn wait_until_ready(process: &Process) -> Result<()> {
    let ready = |line: &str| {
        serde_json::from_str::<Value>(line).is_ok_and(|event| event.get("message") == Some(&"ready".into()))
    };
    process.wait_for_line_where("the message \"ready\"", START, ready).context("start xpxe")?;
    Ok(())
}

/// The xpxe binary under test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("XPXE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let exe = std::env::current_exe()?;
    // target/debug/deps/test-0123 or target/debug/xpxe-demo
    let target = exe.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    let target = target.and_then(Path::parent).context("the running test is not in a target directory")?;
    let built = ["release/xpxe", "debug/xpxe"].map(|binary| target.join(binary));
    let newest = built.iter().filter(|path| path.exists()).max_by_key(|path| modified(path));
    newest.cloned().with_context(|| {
        format!(
            "no xpxe in {}: run `cargo build --package boot-userspace`, or set XPXE_BIN",
            target.display()
        )
    })
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
