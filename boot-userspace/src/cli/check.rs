//! `xpxe check`

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use crate::cli::configuration;
use crate::daemon::misfits::{Misfits, called, misfits};
use crate::files::{BootFiles, Finding, Verdict};
use crate::host::{link, regular};
use crate::http::Certificate;
use crate::images::Images;
use crate::power::password_in;
use boot_engine::answers;
use boot_engine::config::Config;

/// The flags of `xpxe check`.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: super::ConfigFile,
    /// Skip the boot files and this host's interfaces: for the configuration of another host
    #[arg(long)]
    no_files: bool,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let config = match configuration::load(&self.file.config) {
            Ok(config) => Arc::new(config),
            Err(problems) => {
                println!("{problems}");
                return ExitCode::from(1);
            }
        };
        // Of another host nobody knows the addresses.
        let addresses = if self.no_files { Vec::new() } else { link::addresses().unwrap_or_default() };
        let Misfits { mut errors, mut warnings } = misfits(&config, &addresses);
        // Where the file of another host is here says nothing.
        let own_file = (!self.no_files).then_some(self.file.config.as_path());
        errors.extend(configuration::exposed(&config, own_file));
        errors.extend(store(&config, self.no_files));
        if !self.no_files {
            errors.extend(bmc_passwords(&config));
            warnings.extend(readable_passwords(&config, &self.file.config));
        }
        // They may come later, as bonds and VLANs do.
        let absent: Vec<String> = if self.no_files { Vec::new() } else { absent(&config) };
        let mut shown = Vec::new();
        let tls = config.http.tls.iter().chain(config.api.iter().filter_map(|api| api.tls.as_ref()));
        for settings in tls.filter(|_| !self.no_files) {
            match Certificate::read(settings) {
                Ok(certificate) => {
                    warnings.extend(certificate.warnings());
                    shown.push(certificate.says());
                }
                Err(wrong) => errors.push(wrong.to_string()),
            }
        }
        let name = self.file.config.display();
        if errors.is_empty() {
            println!("{name}: fine ({})", summary(&config));
        }
        shown.iter().for_each(|sentence| println!("{sentence}"));
        errors.iter().for_each(|sentence| println!("{name}: {sentence}"));
        warnings.iter().chain(&absent).for_each(|sentence| println!("warning: {sentence}"));
        for sentence in answers::left_out(&config) {
            println!("warning: {sentence}");
        }
        if self.no_files {
            return ExitCode::from(u8::from(!errors.is_empty()));
        }
        let findings = BootFiles::configured(&config).audit(&config);
        findings.iter().for_each(|finding| println!("{}", line(finding)));
        let images = Images::audit(&config);
        images.iter().for_each(|finding| {
            println!("{}{}", if finding.is_error { "error: " } else { "" }, finding.says);
        });
        let is_bad = images.iter().any(|finding| finding.is_error)
            || !errors.is_empty()
            || findings.iter().any(|finding| finding.verdict == Verdict::Error);
        ExitCode::from(u8::from(is_bad))
    }
}

/// Interfaces that cannot be served as they are.
fn absent(config: &Config) -> Vec<String> {
    let found = config.interfaces.iter().map(|interface| link::find(&interface.name));
    found.filter_map(|found| Some(format!("{}; xpxe does not start before that", found.err()?))).collect()
}

/// What keeps xpxe from asking the database, wherever that is.
fn store(config: &Config, no_files: bool) -> Vec<String> {
    let Some(store) = &config.store else { return Vec::new() };
    let mut wrong = Vec::new();
    if let Err(error) = PgConnectOptions::from_str(&store.url) {
        wrong.push(format!("store cannot be used: {error}; correct it"));
    }
    if let Some(file) = store.password_file.as_ref().filter(|_| !no_files)
        && let Err(error) = regular::read_private_text(file)
    {
        wrong.push(format!(
            "store_password_file = {file:?} cannot be read: {error}; write the password there, for xpxe alone to read, or correct the path"
        ));
    }
    wrong
}

/// Files whose passwords no BMC would ever get. A file of many machines is named once.
fn bmc_passwords(config: &Config) -> Vec<String> {
    let of_all = config.bmc.all.password_file.as_deref().map(|file| ("[bmc]".to_owned(), file));
    let of_machines = config.machines.iter().filter_map(|machine| {
        let file = machine.bmc.as_ref()?.password_file.as_deref()?;
        Some((format!("bmc of {}", called(machine)), file))
    });
    let mut looked_at = HashSet::new();
    let files = of_all.into_iter().chain(of_machines).filter(|(_, file)| looked_at.insert(*file));
    let wrong = files.filter_map(|(whose, file)| {
        let why = password_in(file).err()?;
        Some(format!(
            "password_file in {whose}: {why}; write the password into its first line, for xpxe alone to read, or correct the path"
        ))
    });
    wrong.collect()
}

/// Webhooks with a password in their URL, which stands in a file that everybody on this host can read.
fn readable_passwords(config: &Config, file: &Path) -> Vec<String> {
    let mut open = configuration::sources(file).unwrap_or_default();
    let is_open = |name: &str| {
        fs::metadata(name).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o007 != 0)
    };
    open.retain(|source| is_open(&source.name));
    let with_password = config.webhooks.iter().filter(|webhook| webhook.url.has_password());
    let found = with_password.filter_map(|webhook| {
        let has_it = |text: &str| text.contains(webhook.url.reveal());
        let source = open.iter().find(|source| has_it(&String::from_utf8_lossy(&source.bytes)))?;
        Some(format!(
            "[[webhook]] {} has a password in its url, and everybody can read {}: chmod 600 it, and change the password",
            webhook.name, source.name
        ))
    });
    found.collect()
}

fn summary(config: &Config) -> String {
    let Config { interfaces, subnets, profiles, machines, .. } = config;
    format!(
        "{} interfaces, {} subnets, {} profiles, {} machines",
        interfaces.len(),
        subnets.len(),
        profiles.len(),
        machines.len()
    )
}

fn line(Finding { verdict, says }: &Finding) -> String {
    match verdict {
        Verdict::Fine => says.clone(),
        Verdict::Warning => format!("warning: {says}"),
        Verdict::Error => format!("error: {says}"),
    }
}

#[cfg(test)]
mod tests;
