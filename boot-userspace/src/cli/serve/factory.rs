//! Talos of an image factory, as Sidero Booter boots it: a schematic and a version are a kernel, an initrd and arguments.
//!
//! Booter leads each machine to the factory's own script. Here that script is read once, at the start: machines get a script that
//! retries, and the files from the store, which fetches each of them once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, RequestBuilder, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tracing::{info, warn};

use crate::cli::import::literal;
use crate::host::regular;
use crate::host::replace::{PRIVATE, replace};
use boot_engine::config::{Arch, ArchProfile, Profile};

/// Sidero's own factory.
const BASE: &str = "https://factory.talos.dev";
/// Where its scripts are.
const PXE_BASE: &str = "https://pxe.factory.talos.dev";
/// For all of one answer.
const WITHIN: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const LARGEST: usize = 1 << 20;
/// How many initrds a kernel gets.
const MOST_INITRDS: usize = 16;
/// The file in `state_dir` with what the factory said last.
const FILE: &str = "factory.json";
/// The names that the factory has for architectures, and the consoles that Booter gives them.
const AMD64: (&str, [&str; 2]) = ("amd64", ["console=tty0", "console=ttyS0"]);
const ARM64: (&str, [&str; 2]) = ("arm64", ["console=tty0", "console=ttyAMA0"]);

/// The flags of Sidero Booter that say what of which factory is booted.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Factory {
    /// The image factory [default: https://factory.talos.dev]
    #[arg(long, value_name = "URL")]
    image_factory_base_url: Option<String>,
    /// Where the factory's scripts are [default: https://pxe.factory.talos.dev, or the image factory that is given]
    #[arg(long, value_name = "URL")]
    image_factory_pxe_base_url: Option<String>,
    /// Boot the factory's unified kernel image, which is signed, in place of kernel and initrd
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true)]
    secure_boot_enabled: bool,
    /// The schematic [default: one that the factory makes of --extensions and the kernel arguments]
    #[arg(long, value_name = "ID", conflicts_with = "extensions")]
    schematic_id: Option<String>,
    /// Extensions of Talos, with commas between them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    extensions: Vec<String>,
    /// The version of Talos [default: the latest stable one of the factory]
    #[arg(long, value_name = "VERSION")]
    talos_version: Option<String>,
}

/// What the factory's script boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Script {
    kernel: String,
    initrds: Vec<String>,
    args: Vec<String>,
}

/// What the factory said last, so that machines boot while it is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The flags and arguments with which it was asked.
    asked: String,
    version: String,
    amd64: Script,
    arm64: Option<Script>,
}

impl Factory {
    /// Whether a flag is given.
    pub(super) fn is_named(&self) -> bool {
        let Self {
            image_factory_base_url,
            image_factory_pxe_base_url,
            secure_boot_enabled,
            schematic_id,
            extensions,
            talos_version,
        } = self;
        *secure_boot_enabled
            || !extensions.is_empty()
            || [image_factory_base_url, image_factory_pxe_base_url, schematic_id, talos_version]
                .into_iter()
                .any(Option::is_some)
    }

    /// Asks the factory for a profile whose machines get `args`.
    ///
    /// What it says is kept in `state_dir`, and is what counts while it is away.
    ///
    /// # Errors
    /// The factory does not answer, or has no such thing, and never has.
    pub(super) fn profile(&self, args: &str, state_dir: &Path) -> Result<Profile> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let file = state_dir.join(FILE);
        let kept = match runtime.block_on(self.ask(args)) {
            Ok(kept) => {
                if let Err(error) = keep(&file, &kept) {
                    warn!("what the image factory says cannot be kept in {}: {error}", file.display());
                }
                kept
            }
            Err(error) => {
                let before = regular::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let Some(before) = before.filter(|kept: &Kept| kept.asked == self.asked(args)) else {
                    return Err(error.context(
                        "the image factory was not asked with success, and xpxe boots what it says: look whether this host \
                         reaches it, or name files with --kernel and --initrd",
                    ));
                };
                warn!(
                    "the image factory was not asked with success ({error:#}): machines boot what it said last"
                );
                before
            }
        };
        let Kept { version, amd64, arm64, .. } = kept;
        info!("machines boot Talos {version} of {}: {}", self.base(), amd64.kernel);
        Ok(profile(amd64, arm64))
    }

    fn asked(&self, args: &str) -> String {
        format!("{self:?} {args}")
    }

    async fn ask(&self, args: &str) -> Result<Kept> {
        // Whoever was first has chosen the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        let agent = concat!("xpxe/", env!("CARGO_PKG_VERSION"));
        let client = Client::builder().user_agent(agent).timeout(WITHIN).build()?;
        let version = match &self.talos_version {
            Some(version) => version.clone(),
            None => latest(&get(client.get(format!("{}/versions", self.base()))).await?)?,
        };
        let version = format!("v{}", version.trim_start_matches('v'));
        let amd64 = self.script(&client, &version, AMD64, args).await?;
        let arm64 = match self.script(&client, &version, ARM64, args).await {
            Ok(script) => Some(script),
            Err(error) => {
                warn!("arm64 machines boot nothing: the image factory has nothing for them: {error:#}");
                None
            }
        };
        Ok(Kept { asked: self.asked(args), version, amd64, arm64 })
    }

    fn base(&self) -> &str {
        self.image_factory_base_url.as_deref().unwrap_or(BASE).trim_end_matches('/')
    }

    fn pxe_base(&self) -> &str {
        let own = self.image_factory_pxe_base_url.as_deref().or(self.image_factory_base_url.as_deref());
        own.unwrap_or(PXE_BASE).trim_end_matches('/')
    }

    async fn script(
        &self,
        client: &Client,
        version: &str,
        (arch, consoles): (&str, [&str; 2]),
        args: &str,
    ) -> Result<Script> {
        let own: Vec<&str> = args.split_whitespace().collect();
        let schematic = match &self.schematic_id {
            Some(schematic) => schematic.clone(),
            None => self.make_schematic(client, &own, &consoles).await?,
        };
        let secure_boot = if self.secure_boot_enabled { "-secureboot" } else { "" };
        let url = format!("{}/pxe/{schematic}/{version}/metal-{arch}{secure_boot}", self.pxe_base());
        let url: Url = url.parse().with_context(|| format!("{url} is no URL"))?;
        let text = get(client.get(url.clone())).await?;
        let mut script = read_script(&url, &text)?;
        if self.schematic_id.is_some() {
            // One that the factory has made has them already.
            script.args.extend(own.into_iter().map(str::to_owned));
        }
        Ok(script)
    }

    async fn make_schematic(&self, client: &Client, args: &[&str], consoles: &[&str]) -> Result<String> {
        let args: Vec<&str> = args.iter().chain(consoles).copied().collect();
        let wanted = json!({
            "customization": {
                "extraKernelArgs": args,
                "systemExtensions": { "officialExtensions": self.extensions },
            }
        });
        // The factory reads YAML, which JSON is.
        let url = format!("{}/schematics", self.base());
        let answer =
            get(client.post(url).header("content-type", "application/yaml").body(wanted.to_string())).await?;
        let made: Value = serde_json::from_str(&answer).context("the factory's schematic is no JSON")?;
        let id = made.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        id.map(str::to_owned).context("the factory's schematic has no id")
    }
}

/// After a power cut there is a whole file, or the one before.
fn keep(file: &Path, kept: &Kept) -> Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    Ok(replace(file, PRIVATE, &serde_json::to_vec_pretty(kept)?)?)
}

/// The text of a short answer.
async fn get(request: RequestBuilder) -> Result<String> {
    let mut answer = request.send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > LARGEST {
            bail!("{} answers with more than {LARGEST} bytes", answer.url());
        }
    }
    String::from_utf8(text).context("the factory's answer is no text")
}

/// The latest of a list of versions, without those before a release.
fn latest(list: &str) -> Result<String> {
    let versions: Vec<String> = serde_json::from_str(list).context("the factory's versions are no list")?;
    let numbers = |version: &String| -> Option<(Vec<u32>, String)> {
        let parts = version.trim_start_matches('v').split('.').map(str::parse);
        Some((parts.collect::<Result<Vec<u32>, _>>().ok()?, version.clone()))
    };
    let newest = versions.iter().filter_map(numbers).max();
    newest.map(|(_, version)| version).context("the factory has no stable version of Talos")
}

/// What a script for iPXE boots: the first `kernel`, and each `initrd`.
fn read_script(at: &Url, text: &str) -> Result<Script> {
    let (mut kernel, mut initrds, mut args) = (None, Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let command = words.next();
        match command {
            Some("kernel") if kernel.is_none() => {
                kernel = operand(&mut words).map(|path| at.join(path)).transpose()?;
                args = words.filter(|word| !word.starts_with("initrd=")).map(str::to_owned).collect();
            }
            Some("initrd") => initrds.extend(operand(&mut words).map(|path| at.join(path)).transpose()?),
            _ => {}
        }
    }
    let kernel = kernel.with_context(|| format!("the script at {at} boots no kernel"))?;
    if let Some(other) = initrds.iter().chain([&kernel]).find(|url| !matches!(url.scheme(), "http" | "https"))
    {
        bail!("the script at {at} boots {other}, which is not fetched over HTTP");
    }
    if initrds.len() > MOST_INITRDS || text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        bail!("the script at {at} has more than {MOST_INITRDS} initrds, or characters that no script has");
    }
    // Arguments that look like a template are none.
    let args = args.iter().map(|word: &String| literal(word)).collect();
    let image = |url: Url| format!("image:{url}");
    Ok(Script { kernel: image(kernel), initrds: initrds.into_iter().map(image).collect(), args })
}

/// What is behind a command's options, two of which have a value.
fn operand<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<&'t str> {
    loop {
        match words.next()? {
            "-n" | "--name" | "-t" | "--timeout" => drop(words.next()),
            option if option.starts_with('-') => {}
            operand => return Some(operand),
        }
    }
}

/// Machines of an architecture that the factory has nothing for boot nothing.
fn profile(amd64: Script, arm64: Option<Script>) -> Profile {
    let none = Script { kernel: String::new(), initrds: Vec::new(), args: amd64.args.clone() };
    let arm64 = arm64.unwrap_or_else(|| none.clone());
    let shared: Vec<&String> = amd64.args.iter().filter(|word| arm64.args.contains(word)).collect();
    let rest = |args: &[String]| {
        args.iter().filter(|word| !shared.contains(word)).cloned().collect::<Vec<_>>().join(" ")
    };
    let (of_amd64, of_arm64) = (rest(&amd64.args), rest(&arm64.args));
    let args = shared.into_iter().cloned().collect::<Vec<_>>().join(" ");
    let arch: BTreeMap<Arch, ArchProfile> = Arch::ALL
        .into_iter()
        .map(|(_, arch)| {
            let (script, args) = match arch {
                Arch::Bios | Arch::Ia32 | Arch::X64 => {
                    return (arch, ArchProfile { args: of_amd64.clone(), ..ArchProfile::default() });
                }
                Arch::Arm64 => (&arm64, of_arm64.clone()),
                Arch::Arm32 | Arch::Riscv64 | Arch::Loongarch64 => (&none, String::new()),
            };
            let (kernel, initrd) = (Some(script.kernel.clone()), Some(script.initrds.clone()));
            (arch, ArchProfile { kernel, initrd, args, ..ArchProfile::default() })
        })
        .collect();
    Profile { kernel: amd64.kernel, initrd: amd64.initrds, args, arch, ..Profile::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the factory writes it.
    const OF_FACTORY: &str = "#!ipxe\n\nimgfree\n\
        kernel https://pxe.example/image/376567/v1.9.0/kernel-amd64 talos.platform=metal initrd=x console=tty0 console=ttyS0\n\
        initrd https://pxe.example/image/376567/v1.9.0/initramfs-amd64.xz\nboot\n";

    #[test]
    fn the_factory_s_script_is_a_profile() {
        let at: Url = "https://pxe.example/pxe/376567/v1.9.0/metal-amd64".parse().unwrap();
        let amd64 = read_script(&at, OF_FACTORY).unwrap();
        assert_eq!(amd64.kernel, "image:https://pxe.example/image/376567/v1.9.0/kernel-amd64");
        assert_eq!(amd64.initrds, ["image:https://pxe.example/image/376567/v1.9.0/initramfs-amd64.xz"]);
        let other = OF_FACTORY.replace("amd64", "arm64").replace("ttyS0", "ttyAMA0");
        let arm64 = read_script(&at, &other).unwrap();
        let alone = profile(amd64.clone(), None);
        let kernel = |profile: &Profile, arch| profile.first_file(Some(arch));
        assert_eq!(kernel(&alone, Arch::X64), Some(amd64.kernel.clone()));
        assert_eq!(alone.args_of(Some(Arch::X64), ""), "talos.platform=metal console=tty0 console=ttyS0");
        assert_eq!(kernel(&alone, Arch::Arm64), None, "that of amd64 does not run there");
        let profile = profile(amd64, Some(arm64));
        assert_eq!(kernel(&profile, Arch::Riscv64), None);
        assert_eq!(profile.args_of(Some(Arch::X64), ""), "talos.platform=metal console=tty0 console=ttyS0");
        assert_eq!(
            profile.args_of(Some(Arch::Arm64), ""),
            "talos.platform=metal console=tty0 console=ttyAMA0"
        );
        assert!(profile.kernel_of(Some(Arch::Arm64)).ends_with("kernel-arm64"));
        assert!(profile.kernel_of(Some(Arch::Bios)).ends_with("kernel-amd64"));
        let uki =
            read_script(&at, "#!ipxe\nkernel --name uki /image/x/metal-amd64-secureboot.uki.efi\nboot\n")
                .unwrap();
        assert_eq!(uki.kernel, "image:https://pxe.example/image/x/metal-amd64-secureboot.uki.efi");
        assert!(read_script(&at, "<html>").is_err());
    }

    #[test]
    fn the_latest_stable_version_is_the_highest_number() {
        let list = r#"["v1.9.0", "v1.10.0-alpha.1", "v1.9.12", "v1.8.20", "v1.9.2"]"#;
        assert_eq!(latest(list).unwrap(), "v1.9.12");
        assert!(latest(r#"["v1.10.0-alpha.1"]"#).is_err() && latest("{}").is_err());
    }

    #[test]
    fn what_no_factory_writes_is_not_booted() {
        let at: Url = "https://pxe.example/pxe/1/v1/metal-amd64".parse().unwrap();
        for script in ["kernel file:///etc/shadow", "kernel /k\ninitrd ftp://h/i", "kernel /k a=\u{1b}[31m"] {
            assert!(read_script(&at, script).is_err(), "{script:?}");
        }
        assert!(read_script(&at, &format!("kernel /k\n{}", "initrd /i\n".repeat(17))).is_err());
        let script = read_script(&at, "kernel /k a=1 b={{x}} {%").unwrap();
        assert_eq!(script.args.join(" "), "a=1 b={{ '{{' }}x}} {{ '{%' }}");
    }

    #[test]
    fn machines_boot_what_the_factory_said_while_it_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let factory = Factory {
            image_factory_base_url: Some("http://127.0.0.1:1".to_owned()),
            schematic_id: Some("1".to_owned()),
            talos_version: Some("v1.9.0".to_owned()),
            ..Factory::default()
        };
        assert!(factory.profile("a=1", dir.path()).is_err(), "it has never said anything");
        let amd64 = Script { kernel: "image:http://h/k".to_owned(), initrds: Vec::new(), args: Vec::new() };
        let kept = Kept { asked: factory.asked("a=1"), version: "v1.9.0".to_owned(), amd64, arm64: None };
        keep(&dir.path().join(FILE), &kept).unwrap();
        assert_eq!(factory.profile("a=1", dir.path()).unwrap().kernel, "image:http://h/k");
        assert!(factory.profile("a=2", dir.path()).is_err(), "that was not asked for");
    }
}
