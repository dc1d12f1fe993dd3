//! `xpxe agent build`: the initrd in which xpxe's agent runs.

mod cpio;
mod kernel;
mod module_file;
mod tree;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::configuration;
use crate::cli::ConfigFile;
use crate::host::replace::replace;
use cpio::{Archive, Kind};
use tree::Tree;

/// `xpxe agent …`
#[derive(Debug, clap::Args)]
pub(super) struct Agent {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make kernel and initrd of the agent, which takes inventories, wipes disks and writes images
    ///
    /// The initrd has the agent, and the kernel's modules for disks and network cards with what they need. Both files are
    /// put where the daemon serves them. Run it again after an upgrade of xpxe or of the kernel.
    Build(Build),
}

#[derive(Debug, clap::Args)]
struct Build {
    /// The kernel, such as /boot/vmlinuz-6.1.0-56-amd64
    #[arg(long, value_name = "FILE", required_unless_present = "from_system")]
    kernel: Option<PathBuf>,
    /// Take the newest kernel in /boot whose modules are in /lib/modules
    #[arg(long, conflicts_with = "kernel")]
    from_system: bool,
    /// The kernel's modules; without it /lib/modules/VERSION, beside the kernel's /boot
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Firmware of network cards and disk controllers, as far as the modules name it
    #[arg(long, value_name = "DIR", default_value = "/lib/firmware")]
    firmware: PathBuf,
    /// The agent; without it the xpxe-agent beside xpxe
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Where vmlinuz and initrd.img are put; without it agent in boot_dir
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

/// Where packages put it.
const PACKAGED: &str = "/usr/lib/xpxe/xpxe-agent";
const AGENT: &str = "xpxe-agent";

impl Agent {
    pub(super) fn run(self) -> Result<ExitCode> {
        let Verb::Build(build) = self.verb;
        build.run()
    }
}

impl Build {
    fn run(self) -> Result<ExitCode> {
        let found = match self.kernel {
            Some(kernel) => kernel::Kernel::at(&kernel, self.modules)?,
            None => kernel::Kernel::of_system(Path::new("/"))?,
        };
        let agent = read_agent(self.agent)?;
        let output = match self.output {
            Some(output) => output,
            None => configuration::load(&self.file.config)?.boot_dir.join("agent"),
        };
        let tree = Tree::choose(&found.modules)?;
        let firmware = tree.firmware(&self.firmware);
        let initrd = initrd(&agent, &found.version, &tree, &firmware)?;
        fs::create_dir_all(&output).with_context(|| format!("make {}", output.display()))?;
        let kernel = fs::read(&found.file).with_context(|| format!("read {}", found.file.display()))?;
        put(&output.join("vmlinuz"), &kernel)?;
        put(&output.join("initrd.img"), &initrd)?;
        println!(
            "{}: Linux {}, {} modules, {} files of firmware, {} MiB",
            output.display(),
            found.version,
            tree.modules.len(),
            firmware.len(),
            initrd.len() >> 20
        );
        print!("{PROFILE}");
        Ok(ExitCode::SUCCESS)
    }
}

/// What the configuration has to say for it.
const PROFILE: &str = "
[[profile]]
name = \"agent\"
kernel = \"agent/vmlinuz\"
initrd = [\"agent/initrd.img\"]
args = \"console=tty0 console=ttyS0 panic=30 xpxe.agent={{ agent }} xpxe.key={{ agent_key }}\"

[lifecycle]
agent = \"agent\"
";

fn read_agent(named: Option<PathBuf>) -> Result<Vec<u8>> {
    let beside = std::env::current_exe().ok().map(|xpxe| xpxe.with_file_name(AGENT));
    let path = match named {
        Some(path) => path,
        None => beside.into_iter().chain([PathBuf::from(PACKAGED)]).find(|path| path.is_file()).with_context(|| {
            format!("there is no {AGENT} beside xpxe, and no {PACKAGED}: name it (--agent FILE), or build it (cargo xtask build)")
        })?,
    };
    let agent = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    ensure!(agent.starts_with(b"\x7fELF"), "{} is no program", path.display());
    if module_file::has_interpreter(&agent) {
        bail!(
            "{} needs shared libraries, which no initrd has: build it for musl (cargo xtask build)",
            path.display()
        );
    }
    Ok(agent)
}

/// The archive that the kernel unpacks.
fn initrd(agent: &[u8], version: &str, tree: &Tree, firmware: &[(String, PathBuf)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys"] {
        archive.add(directory, Kind::Directory, &[]);
    }
    archive.add("dev/console", Kind::Device { major: 5, minor: 1 }, &[]);
    archive.add("dev/null", Kind::Device { major: 1, minor: 3 }, &[]);
    archive.add("init", Kind::Program, agent);
    let dir = format!("lib/modules/{version}");
    for module in tree.modules.values() {
        archive.add_with_parents(&format!("{dir}/{}", module.path), &module.bytes);
    }
    archive.add_with_parents(&format!("{dir}/modules.dep"), tree.dependencies().as_bytes());
    archive.add_with_parents(&format!("{dir}/modules.alias"), tree.aliases().as_bytes());
    for (name, file) in firmware {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        archive.add_with_parents(&format!("lib/firmware/{name}"), &bytes);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&archive.finish())?;
    Ok(packed.finish()?)
}

/// Writes a file in the place of what was there, all at once: machines may be fetching it.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, 0o644, bytes).with_context(|| format!("write {}", path.display()))
}
