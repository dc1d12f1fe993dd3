//! `boot.cfg`, by which VMware's loader mboot starts ESXi's installer.
//!
//! mboot asks for `01-MAC/boot.cfg` beside itself, then for `boot.cfg`, unless `-c` names one. It takes files from where
//! `prefix=` says. A line is `key=value`, and the files in a list have `---` between them.

use super::loader_context::{Way, dashed};
use super::loader_file::LoaderFile;
use super::plan::{Asked, BootPlan, NoScript, Offer, Plan};
use crate::config::Kind;

/// Arguments of the installer on a CD that send it to its CD drive.
const OF_CD: &str = "cdromBoot";
/// The largest of these files that is read, in bytes.
pub const LARGEST: u64 = 64 << 10;

/// The name of the file in a profile's directory that the one for a machine is made from.
#[must_use]
pub fn own_config(plan: &BootPlan) -> String {
    format!("{}/boot.cfg", plan.kernel)
}

/// The file for a machine, as mboot is sent to it.
pub(super) fn config_of(asked: &Asked, plan: &BootPlan) -> String {
    // iPXE knows its MAC.
    let mac = asked.mac.map_or_else(|| "${mac:hexhyp}".to_owned(), dashed);
    format!("{}/01-{mac}/boot.cfg", plan.kernel)
}

impl LoaderFile {
    /// The plan by which a machine that asks for `boot.cfg` boots ESXi; none if it does not. Of a menu the entry whose
    /// directory the file is asked in.
    pub fn esxi_plan(
        &self,
        asked: &Asked,
        offered: impl Fn(&Asked) -> Result<Offer, NoScript>,
    ) -> Option<Result<BootPlan, NoScript>> {
        let boots = |asked: &Asked| match offered(asked) {
            Ok(Offer::Plan(Plan::Boot(plan))) if plan.kind == Kind::Esxi => Some(Ok(plan)),
            Ok(_) | Err(NoScript::NotForYou(_)) => None,
            Err(refusal) => Some(Err(refusal)),
        };
        let Ok(Offer::Menu(choices)) = offered(asked) else { return boots(asked) };
        let is_asked_in = |plan: &BootPlan| self.dir.starts_with(&format!("{}/", plan.kernel));
        let entry = |entry: String| boots(&Asked { chosen: Some(entry), ..asked.clone() });
        choices.entries.into_iter().filter_map(entry).find(|plan| plan.as_ref().map_or(true, is_asked_in))
    }
}

/// The file for a machine, from the installer's own: with the directory that files come from, and with the profile's and
/// the machine's arguments behind the installer's.
///
/// # Errors
/// The installer's own file is none.
pub fn boot_cfg(asked: &Asked, way: Way, plan: &BootPlan, own: &str) -> Result<String, NoScript> {
    let (mut lines, mut options, mut has_kernel) = (Vec::new(), Vec::new(), false);
    for line in own.lines() {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        let Some((key, value)) = line.split_once('=') else {
            lines.push(line);
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        match key {
            "prefix" => {}
            "kernelopt" => options.extend(value.split_whitespace().map(str::to_owned)),
            "kernel" | "crypto" => {
                has_kernel |= key == "kernel" && !value.is_empty();
                lines.push(format!("{key}={}", value.trim_start_matches('/')));
            }
            "modules" | "acpitables" => {
                let files = value.split("---").map(|file| file.trim().trim_start_matches('/'));
                lines.push(format!("{key}={}", files.collect::<Vec<_>>().join(" --- ")));
            }
            _ => lines.push(format!("{key}={value}")),
        }
    }
    if !has_kernel {
        let why = format!(
            "{} has no kernel= line: unpack the installer's ISO into the directory that esxi names",
            own_config(plan)
        );
        return Err(NoScript::Broken(why));
    }
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = plan.args.split_whitespace().map(key).collect();
    options.retain(|word| word != OF_CD && !given.contains(&key(word)));
    options.extend(plan.args.split_whitespace().map(str::to_owned));
    let prefix = match way {
        Way::Http => asked.server.at(format_args!("/files/{}", plan.kernel)),
        Way::Tftp => plan.kernel.clone(),
    };
    lines.push(format!("kernelopt={}", options.join(" ")));
    lines.push(format!("prefix={prefix}"));
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests;
