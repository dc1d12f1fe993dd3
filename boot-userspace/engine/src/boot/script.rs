//! The iPXE script of each machine.

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::Server;
use super::esxi;
use super::link::LinkKey;
use super::parameters::BootParameters;
use super::plan::{Asked, BootPlan, Choices, NoScript, Offer, Plan, Planner, url};
use crate::config::{Config, Fault, Faults, Kind, mboot, name_in_windows};

/// Whose network iPXE has fetched its first script with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own: its card is open and has its address.
    Own,
    /// The firmware's, as it fetches `autoexec.ipxe`: `${net0/ip}` may be the firmware's address, and every card is closed.
    Firmwares,
}

/// How iPXE asks for the script of its machine. `uristring` keeps a serial number like "To be filled by O.E.M." one word.
const ASKS: &str = "/ipxe/boot.ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain:uristring}\
    &hostname=${hostname:uristring}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform}";

/// The script with which iPXE fetches the one for its machine from `server`. It asks for an address where iPXE has none
/// that it could use, and goes on for ever: a machine whose script ends is in its firmware's shell, and needs somebody who
/// walks there.
///
/// Of several cards the one that the firmware has booted from comes first, which is the one with an address: on the others
/// there may be somebody else's DHCP server.
#[must_use]
pub fn bootstrap(server: &Server, network: Network) -> String {
    let server = server.as_str();
    // One without HTTP, fetched by TFTP, comes to the full iPXE as DHCP has it.
    let (start, otherwise) = match network {
        Network::Own => ("goto script\n", ""),
        Network::Firmwares => ("", " autoboot ||"),
    };
    format!(
        "#!ipxe\n\
         {start}\
         :address\n\
         set card:int32 0\n\
         :card\n\
         isset ${{net${{card}}/mac}} || goto any\n\
         isset ${{net${{card}}/ip}} && dhcp net${{card}} && goto script ||\n\
         inc card\n\
         goto card\n\
         :any\n\
         dhcp || goto again\n\
         :script\n\
         chain --replace {server}{ASKS} ||{otherwise}\n\
         :again\n\
         echo xpxe: no boot script from {server}, trying again in 5 seconds\n\
         sleep 5\n\
         goto address\n"
    )
}

/// The script for a machine that is not to be booted from here: its firmware goes on to its next boot entry, which EDK2
/// does only after an error.
#[must_use]
pub fn not_from_here(why: &str) -> String {
    format!("#!ipxe\necho xpxe: {why}\nexit 1\n")
}

/// Kernel and initrds by name, so that `initrd=` works in EFI and BIOS alike; when a file cannot be fetched the
/// machine says so on its console and asks anew, because a server that restarts must not strand a row of machines.
const BOOT: &str = "#!ipxe
echo xpxe: booting {{ name }} ({{ profile }})
{% for file in initrds -%}
initrd --name {{ file.name }} {{ file.url }} || goto retry
{% endfor -%}
kernel --name kernel {{ kernel }} {% for file in initrds %}initrd={{ file.name }} {% endfor %}{{ args }} || goto retry
boot || goto retry
:retry
echo xpxe: could not boot {{ name }}, trying again in 10 seconds
sleep 10
chain --replace {{ again }} || goto retry
";

/// VMware's loader, which takes the name of its configuration, and nothing else from iPXE.
const ESXI: &str = "#!ipxe
echo xpxe: booting {{ name }} ({{ profile }})
kernel {{ kernel }} -c {{ config }} || goto retry
boot || goto retry
:retry
echo xpxe: could not boot {{ name }}, trying again in 10 seconds
sleep 10
chain --replace {{ again }} || goto retry
";

/// wimboot looks for its files by name: under a BIOS by the last word, under UEFI by `--name`.
const WINDOWS: &str = "#!ipxe
echo xpxe: booting {{ name }} ({{ profile }})
{% for file in initrds -%}
initrd --name {{ file.name }} {{ file.url }} {{ file.name }} || goto retry
{% endfor -%}
kernel --name wimboot {{ kernel }} {{ args }} || goto retry
boot || goto retry
:retry
echo xpxe: could not boot {{ name }}, trying again in 10 seconds
sleep 10
chain --replace {{ again }} || goto retry
";

/// iPXE is the image's drive until the operating system brings one of its own.
const ISO: &str = "#!ipxe
echo xpxe: booting {{ name }} ({{ profile }})
sanboot --no-describe {{ kernel }} || goto retry
:retry
echo xpxe: could not boot {{ name }}, trying again in 10 seconds
sleep 10
chain --replace {{ again }} || goto retry
";

/// What was chosen goes to the server as a name, which takes it only if it is in this menu.
const MENU: &str = "#!ipxe
:menu
menu xpxe: what is {{ name }} to boot?
{% for entry in entries -%}
item {{ entry }} {{ entry }}
{% endfor -%}
choose --default {{ default }} {{ timeout }}chosen || goto menu
chain --replace {{ asks }}&chosen=${chosen} ||
echo xpxe: no boot script from {{ server }}, trying again in 5 seconds
sleep 5
goto menu
";

/// For a machine that waits for somebody to decide about it.
const WAIT: &str = "#!ipxe
:wait
echo xpxe: {{ why }}
sleep 30
chain --replace {{ again }} || goto wait
";

/// Writes the scripts.
pub struct ScriptWriter {
    planner: Planner,
    templates: Environment<'static>,
    key: Option<LinkKey>,
}

impl ScriptWriter {
    /// The scripts for a configuration; a machine's is for its own addresses only.
    ///
    /// # Errors
    /// What is wrong with which template; never with a configuration that was read from files.
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self, Faults> {
        let templates = built_in().map_err(|error| Faults(vec![Fault::new(None, &error)]))?;
        Ok(Self { planner: Planner::new(config)?, templates, key: None })
    }

    /// The same, with links that are signed if the configuration says so.
    #[must_use]
    pub fn with_key(self, key: &LinkKey) -> Self {
        let is_signed = self.planner.config().http.signed_links;
        Self { key: is_signed.then(|| key.clone()), ..self }
    }

    /// The same with what was written while xpxe runs.
    #[must_use]
    pub fn with_parameters(self, written: &BootParameters) -> Self {
        Self { planner: self.planner.with_parameters(written), ..self }
    }

    /// What the links in scripts have to be signed with, if they have to.
    #[must_use]
    pub fn link_key(&self) -> Option<&LinkKey> {
        self.key.as_ref()
    }

    /// The script of one machine.
    ///
    /// # Errors
    /// When the machine is not to be booted, or a template is broken.
    pub fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        match self.planner.offered(asked)? {
            Offer::Menu(choices) => self.menu(asked, &choices),
            Offer::Plan(Plan::Boot(plan)) => {
                let own = self.planner.own_script(asked, &plan, again(asked));
                own.unwrap_or_else(|| self.boot(asked, &plan))
            }
            Offer::Plan(Plan::Wait(why)) => self.wait(asked, &why),
        }
    }

    /// The plans that the scripts are written from.
    #[must_use]
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    fn boot(&self, asked: &Asked, plan: &BootPlan) -> Result<String, NoScript> {
        let server = &asked.server;
        let initrd = |(number, path): (usize, &String)| {
            let name = match plan.kind {
                Kind::Windows => name_in_windows(path).to_owned(),
                _ => format!("initrd{number}"),
            };
            context! { name, url => url(server, path) }
        };
        let initrds: Vec<Value> = plan.initrds.iter().enumerate().map(initrd).collect();
        let (template, kernel) = match plan.kind {
            Kind::Linux => ("boot", plan.kernel.clone()),
            Kind::Windows => ("windows", plan.kernel.clone()),
            Kind::Iso => ("iso", plan.kernel.clone()),
            Kind::Esxi => ("esxi", format!("{}/{}", plan.kernel, mboot(asked.arch()))),
        };
        let kernel = url(server, &kernel);
        let config = server.at(format_args!("/files/{}", esxi::config_of(asked, plan)));
        let BootPlan { name, profile, args, .. } = plan;
        self.render(
            template,
            context! { name, args, initrds, profile, kernel, config, again => again(asked) },
        )
    }

    fn menu(&self, asked: &Asked, choices: &Choices) -> Result<String, NoScript> {
        let Choices { name, entries, default, timeout } = choices;
        let timeout =
            timeout.map(|timeout| format!("--timeout {} ", timeout.as_millis())).unwrap_or_default();
        let (server, asks) = (asked.server.as_str(), asked.server.at(ASKS));
        self.render("menu", context! { name, entries, default, timeout, server, asks })
    }

    fn wait(&self, asked: &Asked, why: &str) -> Result<String, NoScript> {
        self.render("wait", context! { why, again => again(asked) })
    }

    fn render(&self, template: &str, context: Value) -> Result<String, NoScript> {
        self.templates
            .get_template(template)
            .and_then(|template| template.render(context))
            .map(|script| script + "\n")
            .map_err(|error| NoScript::Broken(format!("the {template} script cannot be written: {error:#}")))
    }
}

fn built_in() -> Result<Environment<'static>, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.add_template("boot", BOOT)?;
    templates.add_template("esxi", ESXI)?;
    templates.add_template("windows", WINDOWS)?;
    templates.add_template("iso", ISO)?;
    templates.add_template("menu", MENU)?;
    templates.add_template("wait", WAIT)?;
    Ok(templates)
}

fn again(asked: &Asked) -> String {
    asked.server.at(super::SCRIPT)
}

#[cfg(test)]
mod tests;
