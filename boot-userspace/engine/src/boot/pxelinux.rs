//! PXELINUX's configuration, which U-Boot and petitboot read, too.
//!
//! The language has neither quotes nor loops: a line is taken to its end, and what is tried again is another
//! configuration file, this one. Names of files are encoded, because a blank ends a name and a comma begins the next.

use super::esxi;
use super::loader_context::{Context, Way, encoded, link};
use super::plan::{BootPlan, Choices, NoScript, Plan};
use super::url::url;
use crate::config::{Arch, Kind, mboot};

/// What a kernel for x86 takes; PXELINUX cuts off the rest without a word.
const LONGEST_LINE: usize = 2047;
/// Tenths of a second until a machine that could not boot asks anew.
const RETRY: u32 = 100;
/// The longest time that it takes, in tenths of a second.
const LONGEST_WAIT: u64 = 35_996;
/// The same for one that waits.
const WAIT: u32 = 300;

/// What a machine boots, or why it waits.
pub(super) fn config(context: &Context<'_>, plan: &Plan) -> String {
    match plan {
        Plan::Boot(plan) => boot(context, plan),
        Plan::Wait(why) => wait(context, why),
    }
}

/// For a machine that is not to be booted from here: its firmware goes on to its next boot entry.
pub(super) fn not_from_here(why: &str) -> String {
    format!("SAY xpxe: {why}\nDEFAULT local\nPROMPT 0\nLABEL local\n  LOCALBOOT -1\n")
}

/// The choice between several plans. PXELINUX shows no list without a module, so the names are said.
pub(super) fn menu(
    context: &Context<'_>,
    choices: &Choices,
    entries: &[(String, Result<Plan, NoScript>)],
) -> String {
    let Choices { name, default, timeout, .. } = choices;
    let mut text = format!("SAY xpxe: what is {name} to boot? Type one of these names\n");
    let mut labels = String::new();
    for (entry, plan) in entries {
        let body = match plan {
            Ok(Plan::Boot(plan)) => body(context, plan),
            Ok(Plan::Wait(why)) => Err(why.clone()),
            Err(NoScript::NotForYou(_)) => Ok("  LOCALBOOT -1\n".to_owned()),
            Err(why) => Err(why.to_string()),
        };
        match body {
            Ok(body) => {
                text += &format!("SAY   {entry}\n");
                labels += &format!("LABEL {entry}\n{body}");
            }
            Err(why) => text += &format!("SAY   {entry}: not now: {why}\n"),
        }
    }
    let tenths = timeout.map_or(0, |timeout| timeout.as_secs().saturating_mul(10).min(LONGEST_WAIT));
    text + &format!("DEFAULT {default}\nPROMPT 1\nTIMEOUT {tenths}\nONTIMEOUT {default}\n{labels}")
}

fn boot(context: &Context<'_>, plan: &BootPlan) -> String {
    let BootPlan { name, profile, .. } = plan;
    match body(context, plan) {
        Ok(body) => format!(
            "SAY xpxe: booting {name} ({profile})\nDEFAULT boot\nPROMPT 0\nTIMEOUT {RETRY}\nONTIMEOUT again\n\
             LABEL boot\n{body}{}",
            again(context)
        ),
        Err(why) => wait(context, &why),
    }
}

/// What stands below a label.
fn body(context: &Context<'_>, plan: &BootPlan) -> Result<String, String> {
    let BootPlan { name, args, kind, .. } = plan;
    match kind {
        Kind::Linux => {}
        Kind::Esxi => {
            let mboot = place(context, &format!("{}/{}", plan.kernel, mboot(Some(Arch::Bios))));
            let config = place(context, &esxi::config_of(context.asked, plan));
            return Ok(format!("  KERNEL {mboot}\n  APPEND -c {config}\n"));
        }
        Kind::Windows | Kind::Iso => {
            return Err(format!(
                "cannot boot {name}: PXELINUX starts nothing of {} (key {} of its profile); let it boot iPXE",
                plan.kernel,
                kind.key()
            ));
        }
    }
    let kernel = place(context, &plan.kernel);
    let initrds: Vec<String> = plan.initrds.iter().map(|path| place(context, path)).collect();
    let initrds = initrds.join(",");
    let line = format!("BOOT_IMAGE={kernel} {args} initrd={initrds}").len();
    if line > LONGEST_LINE {
        let why = format!(
            "cannot boot {name}: its kernel's command line has {line} bytes with the names of its files, and PXELINUX \
             passes on {LONGEST_LINE}; shorten args, or boot it with iPXE"
        );
        return Err(why);
    }
    let initrd = if initrds.is_empty() { String::new() } else { format!("  INITRD {initrds}\n") };
    let append = if args.is_empty() { String::new() } else { format!("  APPEND {args}\n") };
    Ok(format!("  LINUX {kernel}\n{initrd}{append}"))
}

fn wait(context: &Context<'_>, why: &str) -> String {
    format!("SAY xpxe: {why}\nDEFAULT again\nPROMPT 1\nTIMEOUT {WAIT}\nONTIMEOUT again\n{}", again(context))
}

/// Reads the file anew, from where it was found.
fn again(context: &Context<'_>) -> String {
    format!("LABEL again\n  CONFIG pxelinux.cfg/{}\n", encoded(&context.file.name))
}

/// Where PXELINUX finds a file. A name is one beside `pxelinux.cfg`, and `::` leads back to the root; U-Boot does not know
/// that, and needs it only where its files are in a directory of their own.
fn place(context: &Context<'_>, path: &str) -> String {
    let link = link(context, path).map(|link| link.replace(',', "%2C"));
    match context.way {
        _ if link.is_some() => link.unwrap_or_default(),
        Way::Tftp if context.file.dir.is_empty() => encoded(path),
        Way::Tftp => format!("::{}", encoded(path)),
        Way::Http => url(&context.asked.server, path),
    }
}
