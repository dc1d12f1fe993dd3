//! `xpxe completions` and `xpxe man`: made from the command line's own description.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// The flags of `xpxe completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "xpxe", &mut text);
        io::stdout().write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The flags of `xpxe man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where they are written: /usr/local/share/man/man1, for example
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let dir = self.dir.display();
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {dir}"))?;
        clap_mangen::generate_to(Cli::command(), &self.dir)
            .with_context(|| format!("cannot write into {dir}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_every_shell_knows_it() {
        let dir = tempfile::tempdir().unwrap();
        Man { dir: dir.path().join("man1") }.run().unwrap();
        let page = |name: &str| fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
        assert!(page("xpxe.1").contains("network\\-boot server"), "{}", page("xpxe.1"));
        assert!(page("xpxe-machines-accept.1").contains("accept"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "xpxe", &mut text);
            let text = String::from_utf8(text).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(text.contains(verb.get_name()), "{shell} does not know {}", verb.get_name());
            }
        }
    }
}
