//! Commands: shown, run and, if they fail, printed for the reader to run by hand.

use std::{
    env, fmt, fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// A command line with its environment, run from the workspace's root.
#[derive(Clone)]
pub(crate) struct Cmd {
    env: Vec<(String, String)>,
    argv: Vec<String>,
    dir: Option<PathBuf>,
}

impl Cmd {
    /// A command from words separated by blanks; pass arguments that may contain a blank to [`Cmd::arg`].
    pub(crate) fn line(words: &str) -> Self {
        Self { env: Vec::new(), argv: words.split_whitespace().map(String::from).collect(), dir: None }
    }

    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Runs the command as root: through sudo, with the environment kept, unless this process is root.
    pub(crate) fn root(mut self) -> Self {
        if !is_root() {
            self.argv.splice(0..0, ["sudo".into(), "-E".into()]);
        }
        self
    }

    /// Shows the command, runs it, and fails if it fails.
    pub(crate) fn run(&self) -> Result<()> {
        println!("+ {self}");
        let status = self.command()?.status().map_err(|error| self.failed(&error))?;
        if status.success() { Ok(()) } else { Err(self.failed(&status)) }
    }

    /// Runs the command quietly and returns its output; fails if it fails.
    pub(crate) fn read(&self) -> Result<String> {
        let out = self.command()?.stderr(Stdio::inherit()).output().map_err(|error| self.failed(&error))?;
        if !out.status.success() {
            return Err(self.failed(&out.status));
        }
        String::from_utf8(out.stdout).with_context(|| format!("the output of `{self}`"))
    }

    /// Runs the command quietly and returns its standard output, whatever its exit code.
    pub(crate) fn probe(&self) -> Option<String> {
        let out = self.command().ok()?.stderr(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Replaces this process by the command, which gets the signals and gives the exit code.
    pub(crate) fn exec(&self) -> Result<()> {
        println!("+ {self}");
        Err(self.failed(&self.command()?.exec()))
    }

    fn command(&self) -> Result<Command> {
        let Some((program, args)) = self.argv.split_first() else { bail!("an empty command") };
        let mut command = Command::new(program);
        command.args(args).envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    fn failed(&self, how: &dyn fmt::Display) -> anyhow::Error {
        let program = self.argv.first().map_or("", String::as_str);
        anyhow!("{program}: {how}\nto run it by hand, from the repository's root:\n    {self}")
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = &self.dir {
            write!(f, "cd {} && ", quote(&dir.to_string_lossy()))?;
        }
        let env = self.env.iter().map(|(key, value)| format!("{key}={}", quote(value)));
        let words: Vec<_> = env.chain(self.argv.iter().map(|word| quote(word))).collect();
        f.write_str(&words.join(" "))
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

/// The path of a program in PATH.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let found = |dir: PathBuf| Some(dir.join(program)).filter(|path| path.is_file());
    env::split_paths(&env::var_os("PATH")?).find_map(found)
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else if word.contains('\'') && !word.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_so_that_a_shell_takes_it_back() {
        let cmd = Cmd::line("cargo test").env("RUNNER", "sudo -E").args(["--", "it's", "'$x"]);
        assert_eq!(cmd.to_string(), r#"RUNNER='sudo -E' cargo test -- "it's" ''\''$x'"#);
    }

    #[test]
    fn a_failure_ends_with_the_command() {
        let error = Cmd::line("false --now").run().unwrap_err().to_string();
        assert!(error.ends_with("\n    false --now"), "{error}");
        let error = Cmd::line("no-such-program").run().unwrap_err().to_string();
        assert!(error.ends_with("\n    no-such-program"), "{error}");
    }
}
