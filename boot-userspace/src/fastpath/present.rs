//! What is at an interface's hooks already: programs that are not of this `pin_dir`.
//!
//! XDP takes one program, so a foreign one keeps ours off. TC takes several, so an xpxe of another `pin_dir` would go on
//! answering from its own tables, before us and unseen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::fastpath::load::{TC, XDP};
use crate::fastpath::{pins, sys};
use crate::host::link;

/// How deep below a bpffs the pins of another xpxe are looked for.
const DEPTH: usize = 3;

/// A program at a hook.
struct Program {
    id: u32,
    /// Nothing without the right to ask, which CAP_BPF alone is not.
    name: Option<String>,
}

impl Program {
    fn describe(&self) -> String {
        let name = self.name.as_deref().unwrap_or("a program whose name the kernel does not tell");
        format!("{name}, id {}", self.id)
    }
}

/// Fails when an xpxe of another `pin_dir` answers at an interface.
///
/// # Errors
/// Names the program, where it is pinned, and how to take it away.
pub fn refuse_another(pin_dir: &Path, (interface, ifindex): (&str, u32)) -> Result<()> {
    for (hook, ours) in [("xdp", XDP), ("tc", TC)] {
        for program in others(pin_dir, hook, interface, ifindex) {
            let dir = pinned_in(hook, interface, program.id);
            if dir.is_none() && program.name.as_deref() != Some(ours) {
                continue;
            }
            let remedy = dir.map_or_else(
                || "its pins are not to be found here: stop that xpxe and run its own xpxe detach".to_owned(),
                |dir| format!("to take it away: xpxe detach --pin-dir {}", dir.display()),
            );
            bail!(
                "another xpxe's program answers on {interface} ({}), from tables that are not in {}: was pin_dir \
                 changed, or does another xpxe serve {interface}? {remedy}",
                program.describe(),
                pin_dir.display()
            );
        }
    }
    Ok(())
}

/// The foreign XDP program at an interface, if there is one.
pub(super) fn foreign_xdp(pin_dir: &Path, (interface, ifindex): (&str, u32)) -> Option<String> {
    others(pin_dir, "xdp", interface, ifindex).first().map(Program::describe)
}

/// The programs at a hook but our own. None where the kernel does not tell: then attaching says what is wrong.
fn others(pin_dir: &Path, hook: &str, interface: &str, ifindex: u32) -> Vec<Program> {
    let ids = match hook {
        "xdp" => link::xdp_programs(ifindex),
        _ => sys::tcx_programs(ifindex),
    };
    let own = sys::pinned_program(&pins::link(pin_dir, hook, interface));
    let others = ids.unwrap_or_default().into_iter().filter(|id| Some(*id) != own);
    others.map(|id| Program { id, name: sys::program_name(id).ok() }).collect()
}

/// The directory in a bpffs that has the pinned link of this program.
fn pinned_in(hook: &str, interface: &str, program: u32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let bpffs = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let mut roots = bpffs.filter(|(_, kind)| *kind == "bpf").map(|(dir, _)| PathBuf::from(dir));
    roots.find_map(|root| search(&root, hook, interface, program, DEPTH))
}

fn search(dir: &Path, hook: &str, interface: &str, program: u32, depth: usize) -> Option<PathBuf> {
    if sys::pinned_program(&pins::link(dir, hook, interface)) == Some(program) {
        return Some(dir.to_path_buf());
    }
    let mut below = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let deeper = depth.checked_sub(1)?;
    below.find_map(|path| if path.is_dir() { search(&path, hook, interface, program, deeper) } else { None })
}
