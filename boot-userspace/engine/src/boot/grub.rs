//! GRUB's configuration.
//!
//! Everything that comes from elsewhere stands in single quotes, in which GRUB takes every character for itself. A
//! configuration that ends leaves its machine in GRUB's shell, so none ends: after an attempt that failed it fetches the
//! next one from the server, which may have another plan by then.

use super::loader_context::{Context, Plans, Way, dashed, encoded, link};
use super::loader_file::{ATTEMPT, MENU};
use super::plan::{BootPlan, Choices, NoScript, Plan};
use crate::config::{Arch, Kind};

/// Many GRUBs for networks do not have the module in them, Debian's signed one among them.
pub(super) const HTTP: &str = "if ! insmod http; then\n\
    echo 'xpxe: this GRUB has no HTTP, which its files need: put http.mod into boot_dir where it looks for modules'\nfi\n";

/// For a machine whose address says nothing: it asks anew by its MAC.
pub(super) fn bootstrap(context: &Context<'_>) -> String {
    // GRUB knows it once its card has an address, which it has: it asks from one.
    let name = own_name(context, "grub.cfg-01-");
    format!(
        "while true; do\nsource {name}\necho 'xpxe: no configuration from {}, trying again in 10 seconds'\nsleep 10\ndone\n",
        context.asked.server.host()
    )
}

/// What a machine boots, or why it waits.
pub(super) fn config(context: &Context<'_>, plans: &Plans) -> String {
    let text = attempts(context, plans);
    if context.file.is_attempt {
        return text;
    }
    let again = own_name(context, &format!("{ATTEMPT}01-"));
    let seconds = match plans.usual {
        Plan::Boot(_) => 10,
        Plan::Wait(_) => 30,
    };
    text + &format!("while true; do\nsleep {seconds}\nsource {again}\ndone\n")
}

/// GRUB shows a menu only for a configuration file that it opens as one: this leads there.
pub(super) fn open_menu(context: &Context<'_>) -> String {
    format!("configfile {}\n", own_name(context, &format!("{MENU}01-")))
}

/// The choice between several plans. What was chosen is tried for ever: the menu comes back with Escape.
pub(super) fn menu(
    context: &Context<'_>,
    choices: &Choices,
    entries: &[(String, Result<Plans, NoScript>)],
) -> String {
    let timeout = choices.timeout.map_or_else(|| "-1".to_owned(), |timeout| timeout.as_secs().to_string());
    let mut text = format!("set default={}\nset timeout={timeout}\n", quoted(&choices.default));
    for (name, plans) in entries {
        let body = match plans {
            Ok(plans) => format!("while true; do\n{}sleep 10\ndone\n", attempts(context, plans)),
            Err(NoScript::NotForYou(why)) => not_from_here(why),
            Err(why) => format!("echo {}\nsleep 10\n", quoted(&format!("xpxe: {why}"))),
        };
        text += &format!("menuentry {} {{\n{body}}}\n", quoted(name));
    }
    text
}

/// One attempt, by the plan for the architecture.
fn attempts(context: &Context<'_>, plans: &Plans) -> String {
    let mut text = String::new();
    for (number, (arch, plan)) in plans.of_arch.iter().enumerate() {
        let word = if number == 0 { "if" } else { "elif" };
        let name = grub_name(*arch);
        text +=
            &format!("{word} [ \"$grub_cpu-$grub_platform\" = {name} ]; then\n{}", attempt(context, plan));
    }
    text += match plans.of_arch.is_empty() {
        true => "",
        false => "else\n",
    };
    text += &attempt(context, &plans.usual);
    if !plans.of_arch.is_empty() {
        text += "fi\n";
    }
    text
}

/// For a machine that is not to be booted from here: its firmware goes on to its next boot entry.
pub(super) fn not_from_here(why: &str) -> String {
    format!("echo {}\nsleep 3\nexit 1\n", quoted(&format!("xpxe: {why}")))
}

fn attempt(context: &Context<'_>, plan: &Plan) -> String {
    let plan = match plan {
        Plan::Boot(plan) => plan,
        Plan::Wait(why) => return format!("echo {}\n", quoted(&format!("xpxe: {why}"))),
    };
    match files(context, plan) {
        Ok(Files { kernel, initrds, by_http }) => {
            let http = if by_http { HTTP } else { "" };
            let args: String = words(&plan.args).iter().map(|word| format!(" {}", quoted(word))).collect();
            let boot = match initrds.is_empty() {
                true => "boot".to_owned(),
                false => format!("if initrd {}; then boot; fi", initrds.join(" ")),
            };
            let BootPlan { name, profile, .. } = plan;
            let booting = quoted(&format!("xpxe: booting {name} ({profile})"));
            let failed = quoted(&format!("xpxe: could not boot {name}, trying again in 10 seconds"));
            format!("echo {booting}\n{http}if linux {kernel}{args}; then\n{boot}\nfi\necho {failed}\n")
        }
        Err(why) => format!("echo {}\n", quoted(&format!("xpxe: cannot boot {}: {why}", plan.name))),
    }
}

struct Files {
    kernel: String,
    initrds: Vec<String>,
    /// Some of them come by HTTP.
    by_http: bool,
}

fn files(context: &Context<'_>, plan: &BootPlan) -> Result<Files, String> {
    if plan.kind != Kind::Linux {
        return Err(format!(
            "GRUB starts nothing of {} (key {} of its profile): let this machine boot iPXE",
            plan.kernel,
            plan.kind.key()
        ));
    }
    let kernel = place(context, &plan.kernel)?;
    let initrds = plan.initrds.iter().map(|path| place(context, path)).collect::<Result<Vec<_>, _>>()?;
    let by_http = initrds.iter().chain([&kernel]).any(|place| place.starts_with("'(http"));
    Ok(Files { kernel, initrds, by_http })
}

/// Where GRUB finds a file.
fn place(context: &Context<'_>, path: &str) -> Result<String, String> {
    let Some(link) = link(context, path) else {
        return Ok(quoted(&format!("{}{}", root(context), encoded(path))));
    };
    let Some(rest) = link.strip_prefix("http://") else {
        return Err(format!("GRUB cannot fetch {link}: name a file in boot_dir, or an http:// URL"));
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(quoted(&format!("(http,{})/{path}", of_port_80(host))))
}

/// The device and the directory that stand for the boot directory.
fn root(context: &Context<'_>) -> String {
    let server = &context.asked.server;
    match context.way {
        Way::Tftp => format!("(tftp,{})/", server.host()),
        Way::Http => {
            format!("(http,{})/files/", of_port_80(server.as_str().rsplit('/').next().unwrap_or_default()))
        }
    }
}

/// GRUB before 2.12 knows port 80 only, and takes no address with one.
fn of_port_80(host: &str) -> &str {
    host.strip_suffix(":80").unwrap_or(host)
}

/// A file for this machine beside the one that it asked for.
fn own_name(context: &Context<'_>, before: &str) -> String {
    let mac = context.asked.mac.map_or_else(|| "$net_default_mac".to_owned(), dashed);
    format!("{}{}{before}{mac}", root(context), encoded(&context.file.dir))
}

/// As `$grub_cpu-$grub_platform`.
const fn grub_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Bios => "i386-pc",
        Arch::Ia32 => "i386-efi",
        Arch::X64 => "x86_64-efi",
        Arch::Arm32 => "arm-efi",
        Arch::Arm64 => "arm64-efi",
        Arch::Riscv64 => "riscv64-efi",
        Arch::Loongarch64 => "loongarch64-efi",
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Arguments as the kernel tells them apart. GRUB itself puts double quotes around one that has a blank in it, and a
/// backslash before those that are in one, where the kernel would take it for itself.
fn words(args: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in args.chars() {
        match words.last_mut() {
            _ if character == '"' => is_quoted = !is_quoted,
            Some(word) if is_quoted || !character.is_whitespace() => word.push(character),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
