//! What a machine boots: the one answer that iPXE's script and every other format are written from.

use std::sync::Arc;
use std::time::Duration;

use boot_common::Mac;

pub use super::asked::Asked;
use super::choice::{Booting, Choice};
use super::level::Level;
pub use super::no_script::NoScript;
use super::parameters::{BootParameters, Found, Whose, image_in};
use super::stage::{Stage, plain, stage};
use super::told::Told;
pub use super::url::url;
use super::variables;
use crate::config::{
    Config, Faults, Front, Kind, Machine, Profile, Templates, Variables, check_args, is_template, tame,
};

/// What a machine does after its firmware and boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It boots a kernel.
    Boot(BootPlan),
    /// It waits and asks again, until somebody has decided about it. The text is for its console.
    Wait(String),
}

/// A kernel with all that it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootPlan {
    /// The machine's name, or its MAC, or its address: for its console.
    pub name: String,
    /// The profile that this comes from.
    pub profile: String,
    /// What `kernel` is, and so how it is booted.
    pub kind: Kind,
    /// A path in the boot directory, an image of the store, or a URL; of ESXi the directory of its installer.
    pub kernel: String,
    /// In the order in which the kernel gets them; each a path in the boot directory, an image, or a URL.
    pub initrds: Vec<String>,
    /// The kernel's arguments; may be empty.
    pub args: String,
    /// What this is, if somebody has written it while xpxe runs.
    pub written: Option<Found>,
}

/// What a machine with a person in front of it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// One plan.
    Plan(Plan),
    /// The choice between several.
    Menu(Choices),
}

/// A menu on a machine's console. [`Asked::chosen`] is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The machine's name, or its MAC, or its address.
    pub name: String,
    /// The names of profiles, and [`LOCAL`](crate::config::LOCAL).
    pub entries: Vec<String>,
    /// The one that boots by itself.
    pub default: String,
    /// When that is; none: never.
    pub timeout: Option<Duration>,
}

impl Plan {
    /// This plan for those who can only start a kernel.
    ///
    /// # Errors
    /// It is about something else.
    pub fn of_kernel(self) -> Result<Self, NoScript> {
        match self {
            Self::Boot(plan) if plan.kind != Kind::Linux => Err(NoScript::NotForYou(format!(
                "{} boots profile {}, which has {} instead of kernel: only xpxe's own scripts start that",
                plan.name,
                plan.profile,
                plan.kind.key()
            ))),
            plan => Ok(plan),
        }
    }
}

impl From<Plan> for Offer {
    fn from(plan: Plan) -> Self {
        Self::Plan(plan)
    }
}
/// What a plan of the server of `pixiecore_api` comes from.
const API: &str = "pixiecore's API";

/// Plans what machines boot, by a configuration.
pub struct Planner {
    config: Arc<Config>,
    templates: Templates,
    has_secrets: bool,
    /// What was written while xpxe runs.
    written: BootParameters,
}

impl Planner {
    /// The plans of a configuration.
    ///
    /// # Errors
    /// A text in it is no template. One that was read from files has none of these.
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self, Faults> {
        let config = config.into();
        Ok(Self {
            templates: Templates::new(&config.templates)?,
            has_secrets: config.has_secrets(),
            written: BootParameters::default(),
            config,
        })
    }

    /// The same with what was written while xpxe runs.
    #[must_use]
    pub fn with_parameters(self, written: &BootParameters) -> Self {
        Self { written: written.clone(), ..self }
    }

    /// What was written while xpxe runs.
    #[must_use]
    pub fn parameters(&self) -> &BootParameters {
        &self.written
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What the machine that asks may boot: its plan, or the menu of which nobody has chosen yet.
    ///
    /// # Errors
    /// When the machine is not to be booted from here.
    pub fn offered(&self, asked: &Asked) -> Result<Offer, NoScript> {
        self.check_asker(asked)?;
        let is_chosen = |entry: &String| Some(entry) == asked.chosen.as_ref();
        if !matches!(stage(&self.config, asked)?, Stage::Wait(_))
            && let Some(menu) = self.choice(asked).menu
            && !menu.entries.iter().any(is_chosen)
        {
            return Ok(Offer::Menu(Choices {
                name: self.name(asked),
                entries: menu.entries.clone(),
                default: menu.default.clone(),
                timeout: menu.timeout,
            }));
        }
        self.plan(asked).map(Offer::Plan)
    }

    /// The machine that asks, for its console.
    fn name(&self, asked: &Asked) -> String {
        asked.machine().and_then(|machine| machine.name.clone()).unwrap_or_else(|| asked.called())
    }

    /// What the machine that asks boots; of a menu what was chosen, or the default. A machine's plan is for its own addresses
    /// only.
    ///
    /// # Errors
    /// When the machine is not to be booted from here.
    pub fn plan(&self, asked: &Asked) -> Result<Plan, NoScript> {
        self.check_asker(asked)?;
        if let Stage::Wait(why) = stage(&self.config, asked)? {
            return Ok(Plan::Wait(why));
        }
        let arch = asked.arch();
        let choice = self.choice(asked);
        if choice.is_local {
            let why = format!("{} boots its disk, as its menu has it", self.name(asked));
            return Err(NoScript::NotForYou(why));
        }
        let name = self.name(asked);
        if let Some(written) = &choice.written {
            return Ok(Plan::Boot(written_plan(asked, name, written)));
        }
        match choice.told.as_deref() {
            None => {}
            Some(Told::Boot { kernel, initrds, args, message }) => {
                let profile = if message.is_empty() { API } else { message };
                return Ok(Plan::Boot(BootPlan {
                    name,
                    profile: profile.to_owned(),
                    kind: Kind::Linux,
                    kernel: kernel.clone(),
                    initrds: initrds.clone(),
                    args: args.clone(),
                    written: None,
                }));
            }
            // The script says all.
            Some(Told::Script(_)) => {
                let profile = API.to_owned();
                return Ok(Plan::Boot(BootPlan { name, profile, ..BootPlan::default() }));
            }
            Some(Told::No(why)) => {
                return Err(NoScript::NotForYou(format!("{} is not booted: {why}", asked.called())));
            }
            Some(Told::Unknown(why)) => return Ok(Plan::Wait(plain(why))),
        }
        let Some((profile_name, profile)) = choice.profile else {
            let text = format!(
                "{} has no profile: give it one in [[machine]] or in a [[group]], or set profile in [default]",
                asked.called()
            );
            return Ok(Plan::Wait(text));
        };
        let kernel = profile.kernel_of(arch);
        if let Some(arch) = arch.filter(|_| kernel.is_empty() && profile.menu.is_none()) {
            let text = format!(
                "{name} boots profile {profile_name}, which has no kernel for {arch} (kernel in [profile.arch.{arch}])"
            );
            return Err(NoScript::NotForYou(text));
        }
        Ok(Plan::Boot(BootPlan {
            name,
            profile: profile_name.to_owned(),
            kind: profile.kind,
            kernel: kernel.to_owned(),
            initrds: profile.initrd_of(arch).to_vec(),
            args: self.args(asked, &choice, profile)?,
            written: None,
        }))
    }

    /// The whole command line, with what its variables stand for.
    pub(super) fn args(
        &self,
        asked: &Asked,
        choice: &Choice<'_>,
        profile: &Profile,
    ) -> Result<String, NoScript> {
        let args = profile.args_of(asked.arch(), &choice.own_args(asked.machine()));
        if !is_template(&args) {
            return Ok(args);
        }
        let broken = |why: String| {
            NoScript::Broken(format!("the kernel arguments of {} cannot be written: {why}", asked.called()))
        };
        let variables = variables::of(&self.config, asked, choice);
        let args =
            self.templates.render_text(&args, &variables).map_err(|fault| broken(fault.to_string()))?;
        check_args(&args).map_err(broken)
    }

    /// What a file of the configuration says of the machine that asks and has this plan: its own script.
    pub(super) fn own_script(
        &self,
        asked: &Asked,
        plan: &BootPlan,
        again: String,
    ) -> Option<Result<String, NoScript>> {
        let choice = self.choice(asked);
        if let Some(Told::Script(script)) = choice.told.as_deref() {
            return Some(Ok(script.clone()));
        }
        let (_, profile) = choice.profile.filter(|_| choice.written.is_none())?;
        let template = profile.template.as_ref()?;
        let args = Some(plan.args.clone());
        let variables = Variables { args, again: Some(again), ..variables::of(&self.config, asked, &choice) };
        let script = self.templates.render(template, &variables);
        Some(script.map_err(|fault| {
            NoScript::Broken(format!("the script of {} cannot be written: {fault}", asked.called()))
        }))
    }

    /// The kernel that somebody has written for a machine, if it boots that.
    #[must_use]
    pub fn written_kernel(&self, machine: &Machine, mac: Mac) -> Option<String> {
        let is_on = self.config.http.fronts.contains(&Front::Bss);
        let booting = Booting { machine: Some(machine), mac: Some(mac), ..Booting::default() };
        let level = Choice::new(&self.config, &booting).level(Some(machine));
        let whose = Whose { machine: Some(machine), mac: Some(mac), arch: None };
        let written = self.written.get().boots(&whose, level).filter(|_| is_on)?;
        Some(written.parameters.kernel())
    }

    /// The profile and the groups of the machine that asks.
    pub(super) fn choice(&self, asked: &Asked) -> Choice<'_> {
        let serial = asked.serial.as_deref().map(tame);
        let choice = Choice::new(
            &self.config,
            &Booting {
                machine: asked.machine(),
                mac: asked.mac,
                switch_port: asked.asker.switch_port.as_ref(),
                address: asked.address(),
                arch: asked.arch(),
                serial: serial.as_deref(),
            },
        );
        let choice = match stage(&self.config, asked) {
            Ok(Stage::Other(name)) => choice.instead(&self.config, name),
            Ok(Stage::Own) if self.config.http.fronts.contains(&Front::Bss) => {
                let mut choice = choice;
                let level = choice.level(asked.machine());
                choice.written = self.written.get().boots(&asked.into(), level);
                self.with_told(choice, asked)
            }
            Ok(Stage::Own) => self.with_told(choice, asked),
            _ => choice,
        };
        match choice.written.is_none() && choice.told.is_none() {
            true => choice.from_menu(&self.config, asked.chosen.as_deref()),
            false => choice,
        }
    }

    /// Where nothing says what this one machine boots, the server of `pixiecore_api` does.
    fn with_told<'c>(&'c self, choice: Choice<'c>, asked: &Asked) -> Choice<'c> {
        let told = asked.told.clone().filter(|_| self.is_for_api(&choice, asked));
        choice.telling(told)
    }

    fn is_for_api(&self, choice: &Choice<'_>, asked: &Asked) -> bool {
        let is_open = choice.written.is_none() && choice.level(asked.machine()) == Level::Default;
        self.config.http.pixiecore_api.is_some() && is_open
    }

    /// What to ask the server of `pixiecore_api` for, if it says what the machine that asks boots.
    #[must_use]
    pub fn elsewhere(&self, asked: &Asked) -> Option<String> {
        let prefix = self.config.http.pixiecore_api.as_ref()?;
        let (mac, stage) = (asked.mac?, stage(&self.config, asked).ok()?);
        let is_its = stage == Stage::Own && self.is_for_api(&self.choice(asked), asked);
        (is_its && self.check_asker(asked).is_ok())
            .then(|| format!("{}/v1/boot/{mac}", prefix.trim_end_matches('/')))
    }

    /// Whether who asks is the machine that is meant: scripts and documents hold tokens and passwords, and anybody can name
    /// a MAC or a UUID.
    ///
    /// # Errors
    /// The machine has another address.
    pub fn check_asker(&self, asked: &Asked) -> Result<(), NoScript> {
        let (Some(machine), Some(address)) = (asked.machine(), asked.asker.elsewhere) else { return Ok(()) };
        if self.config.http.shared_addresses.iter().any(|net| net.contains(&asked.client_ip)) {
            return Ok(());
        }
        let machine = machine.name.clone().unwrap_or_else(|| asked.called());
        Err(NoScript::OfAnother { machine, address })
    }

    /// Whether a document of any machine is secret.
    pub(super) fn has_secrets(&self) -> bool {
        self.has_secrets
    }

    pub(super) fn templates(&self) -> &Templates {
        &self.templates
    }
}

/// What somebody has written, as a plan.
pub(super) fn written_plan(asked: &Asked, name: String, written: &Found) -> BootPlan {
    let Found { target, parameters, more } = written;
    let args = parameters.args(more);
    let fetched = |word: &str| match image_in(word) {
        Some((key, image)) => format!("{key}{}", url(&asked.server, &image)),
        None => word.to_owned(),
    };
    BootPlan {
        name,
        profile: format!("boot parameters of {}", target.called()),
        kind: Kind::Linux,
        kernel: parameters.kernel(),
        initrds: parameters.initrds(),
        args: args.split(' ').map(fetched).collect::<Vec<_>>().join(" "),
        written: Some(written.clone()),
    }
}
