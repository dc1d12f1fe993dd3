//! PXELINUX's configuration, which U-Boot and petitboot read, too.
//!
//! The language has neither quotes nor loops: a line is taken to its end, and what is tried again is another
//! configuration file, this one. Names of files are encoded, because a blank ends a name and a comma begins the next.

use super::loader_context::{Context, Way, encoded, link};
use super::plan::{BootPlan, Plan};
use super::url::url;

/// What a kernel for x86 takes; PXELINUX cuts off the rest without a word.
const LONGEST_LINE: usize = 2047;
/// Tenths of a second until a machine that could not boot asks anew.
const RETRY: u32 = 100;
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

fn boot(context: &Context<'_>, plan: &BootPlan) -> String {
    let BootPlan { name, profile, args, .. } = plan;
    let kernel = place(context, &plan.kernel);
    let initrds: Vec<String> = plan.initrds.iter().map(|path| place(context, path)).collect();
    let initrds = initrds.join(",");
    let line = format!("BOOT_IMAGE={kernel} {args} initrd={initrds}").len();
    if line > LONGEST_LINE {
        let why = format!(
            "cannot boot {name}: its kernel's command line has {line} bytes with the names of its files, and PXELINUX \
             passes on {LONGEST_LINE}; shorten args, or boot it with iPXE"
        );
        return wait(context, &why);
    }
    let initrd = if initrds.is_empty() { String::new() } else { format!("  INITRD {initrds}\n") };
    let append = if args.is_empty() { String::new() } else { format!("  APPEND {args}\n") };
    format!(
        "SAY xpxe: booting {name} ({profile})\nDEFAULT boot\nPROMPT 0\nTIMEOUT {RETRY}\nONTIMEOUT again\n\
         LABEL boot\n  LINUX {kernel}\n{initrd}{append}{}",
        again(context)
    )
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
