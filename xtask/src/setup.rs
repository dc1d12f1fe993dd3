//! `cargo xtask setup`: installs the programs that building, showing and testing xpxe needs on a fresh Debian machine.

mod agent_kernel;
mod apt;
mod bpf_linker;
mod browser;
mod cargo_deny;
mod firmware;
mod guest;
pub(crate) mod kernels;
mod machine;
pub(crate) mod musl;
pub(crate) mod nginx;
mod peers;
mod python;
mod readers;
mod rust_src;
mod s3;
mod suite;
mod unpack;

use std::env;

use anyhow::{Context, Result, bail};

use crate::{cmd, toolchain::Toolchain, workspace::Workspace};

/// Install the missing programs to build, show and test xpxe; a second run does nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only name the missing ones; fail if there are any.
    #[arg(long)]
    check: bool,
}

/// How much is set up; each scope includes the ones before it, but [`Servers`](Self::Servers) is in no other, and what
/// [`Peers`](Self::Peers) and [`RootTests`](Self::RootTests) add is not in [`Demo`](Self::Demo).
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Scope {
    /// The build dependencies.
    Build,
    /// And cargo-deny, which checks the dependencies.
    Lints,
    /// And the programs that the demo, tests and benchmarks start.
    Programs,
    /// And the DHCP servers whose configurations tests import; xpxe is measured beside them.
    Peers,
    /// And the other servers that xpxe is measured beside.
    Servers,
    /// And what only the tests that need root start.
    RootTests,
    /// And the kernels and firmware of machines that boot.
    Demo,
    /// All that tests need.
    Everything,
}

/// The facts that the steps look at.
struct Machine<'a> {
    ws: &'a Workspace,
    toolchain: Toolchain,
    apt: apt::Apt,
}

/// One step of the set-up: names the missing parts and installs them.
struct Step {
    scope: Scope,
    why: &'static str,
    missing: fn(&Machine<'_>) -> Result<Vec<String>>,
    install: fn(&Machine<'_>, &[String]) -> Result<()>,
}

const STEPS: [Step; 19] = [
    Step {
        scope: Scope::Build,
        why: "bpf-linker and xpxe are built with them",
        missing: |machine| apt::missing(&apt::build_packages(machine.toolchain.llvm)),
        install: |machine, packages| machine.apt.install(packages),
    },
    Step {
        scope: Scope::Build,
        why: "the kernel half's own `core` is built from it",
        missing: |_| rust_src::missing(),
        install: |machine, _| rust_src::install(&machine.toolchain),
    },
    Step {
        scope: Scope::Build,
        why: "the agent is built for it: an initrd has no shared libraries",
        missing: |_| musl::missing(),
        install: |machine, _| musl::install(&machine.toolchain),
    },
    Step {
        scope: Scope::Build,
        why: "it links the kernel half, and must have rustc's LLVM",
        missing: |machine| Ok(bpf_linker::missing(&machine.toolchain)),
        install: |machine, _| bpf_linker::install(&machine.toolchain),
    },
    Step {
        scope: Scope::Lints,
        why: "it checks licences and sources of the crates that are built in",
        missing: |_| Ok(cargo_deny::missing()),
        install: |_, _| cargo_deny::install(),
    },
    Step {
        scope: Scope::Programs,
        why: "demo, tests and benchmarks start them",
        missing: |_| apt::missing(&apt::PROGRAMS.map(String::from)),
        install: |machine, packages| machine.apt.install(packages),
    },
    Step {
        scope: Scope::Servers,
        why: "`cargo xtask bench http` measures it beside xpxe",
        missing: |machine| Ok(nginx::missing(&machine.ws.nginx())),
        install: |machine, packages| nginx::install(&machine.ws.nginx(), &machine.apt, packages),
    },
    Step {
        scope: Scope::Peers,
        why: "tests import their configurations; xpxe is measured beside them",
        missing: |machine| Ok(peers::missing(&machine.ws.peers())),
        install: |machine, _| peers::install(&machine.ws.peers(), &machine.apt),
    },
    Step {
        scope: Scope::RootTests,
        why: "images come from it in the tests",
        missing: |_| Ok(s3::missing()),
        install: |_, _| s3::install(),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests switch machines through it",
        missing: |machine| Ok(python::missing(&machine.ws.sushy(), &python::SUSHY)),
        install: |machine, packages| python::install(&machine.ws.sushy(), packages),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests compare the API with its document",
        missing: |machine| Ok(python::missing(&machine.ws.schemathesis(), &python::SCHEMATHESIS)),
        install: |machine, packages| python::install(&machine.ws.schemathesis(), packages),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests read traces with it",
        missing: |machine| Ok(python::missing(&machine.ws.readers().join("otlp"), &python::OTLP)),
        install: |machine, packages| python::install(&machine.ws.readers().join("otlp"), packages),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests try documents with them",
        missing: |machine| Ok(readers::missing(&machine.ws.readers())),
        install: |machine, packages| readers::install(&machine.ws.readers(), &machine.apt, packages),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests look at the dashboard with it",
        missing: |_| apt::missing(&browser::PACKAGES.map(String::from)),
        install: |machine, packages| machine.apt.install(packages),
    },
    Step {
        scope: Scope::RootTests,
        why: "tests examine the dashboard with it",
        missing: |machine| Ok(browser::missing_axe(&machine.ws.readers())),
        install: |machine, _| browser::install_axe(&machine.ws.readers()),
    },
    Step {
        scope: Scope::Demo,
        why: "the firmware tests boot it",
        missing: |machine| Ok(guest::missing(&machine.ws.guest())),
        install: |machine, _| guest::install(&machine.ws.guest(), &machine.apt),
    },
    Step {
        scope: Scope::Demo,
        why: "the agent runs on it in the firmware tests",
        missing: |machine| Ok(agent_kernel::missing(&machine.ws.guest().join("agent"))),
        install: |machine, _| agent_kernel::install(&machine.ws.guest().join("agent"), &machine.apt),
    },
    Step {
        scope: Scope::Demo,
        why: "the firmware tests boot with them",
        missing: |machine| Ok(firmware::missing(&machine.ws.guest())),
        install: |machine, packages| firmware::install(&machine.ws.guest(), packages),
    },
    Step {
        scope: Scope::Everything,
        why: "the fast path is tried on them",
        missing: |machine| Ok(kernels::missing(&machine.ws.kernels())),
        install: |machine, versions| kernels::install(&machine.ws.kernels(), versions),
    },
];

/// Runs the verb.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    if !args.check {
        return ensure(ws, Scope::Everything);
    }
    let machine = look(ws)?;
    let mut missing = machine::lacks();
    for step in STEPS.iter().filter(|step| is_part(step, Scope::Everything)) {
        let found = (step.missing)(&machine)?;
        missing.extend(found.iter().map(|name| format!("{name} ({})", step.why)));
    }
    for line in &missing {
        println!("setup: missing: {line}");
    }
    match missing.len() {
        0 => println!("setup: nothing is missing"),
        count => bail!("{count} missing; to install what can be installed:\n    cargo xtask setup"),
    }
    Ok(())
}

/// Whether a scope has this step. Only benchmarks and tests need other servers, and only tests a server of images: nobody
/// else waits for them.
fn is_part(step: &Step, scope: Scope) -> bool {
    let is_for_it = match step.scope {
        Scope::Servers => scope == Scope::Servers,
        Scope::Peers | Scope::RootTests => scope != Scope::Demo,
        _ => true,
    };
    step.scope <= scope && is_for_it
}

/// Installs the missing parts of `scope`.
pub(crate) fn ensure(ws: &Workspace, scope: Scope) -> Result<()> {
    if env::var_os("XPXE_SETUP").is_some_and(|value| value == "skip") {
        println!("setup: skipped (XPXE_SETUP=skip)");
        return Ok(());
    }
    let machine = look(ws)?;
    let mut idle = true;
    for step in STEPS.iter().filter(|step| is_part(step, scope)) {
        let missing = (step.missing)(&machine)?;
        if !missing.is_empty() {
            idle = false;
            let names = missing.join(" ");
            println!("setup: installing {names}: {}", step.why);
            (step.install)(&machine, &missing).with_context(|| format!("install {names}"))?;
        }
    }
    if idle {
        println!("setup: nothing to do");
    }
    for line in machine::lacks() {
        println!("setup: warning: {line}");
    }
    Ok(())
}

fn look(ws: &Workspace) -> Result<Machine<'_>> {
    let toolchain = Toolchain::ask(ws)?;
    if cmd::which("apt-get").is_none() || cmd::which("dpkg-query").is_none() {
        bail!(
            "{}",
            apt::without(
                toolchain.llvm,
                &bpf_linker::command(&toolchain),
                &ws.guest(),
                &guest::files().collect::<Vec<_>>()
            )
        );
    }
    Ok(Machine { ws, toolchain, apt: apt::Apt::default() })
}
