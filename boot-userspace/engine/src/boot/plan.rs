//! What a machine boots: the one answer that iPXE's script and every other format are written from.

use std::sync::Arc;
use std::time::Duration;

pub use super::asked::Asked;
use super::choice::{Booting, Choice};
pub use super::no_script::NoScript;
use super::stage::{Stage, stage};
pub use super::url::url;
use super::variables;
use crate::config::{Config, Faults, Kind, Profile, Templates, Variables, check_args, is_template, tame};

/// What a machine does after its firmware and boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It boots a kernel.
    Boot(BootPlan),
    /// It waits and asks again, until somebody has decided about it. The text is for its console.
    Wait(String),
}

/// A kernel with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Plans what machines boot, by a configuration.
pub struct Planner {
    config: Arc<Config>,
    templates: Templates,
    has_secrets: bool,
}

impl Planner {
    /// The plans of a configuration.
    ///
    /// # Errors
    /// A text in it is no template. One that was read from files has none of these.
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self, Faults> {
        let config = config.into();
        Ok(Self { templates: Templates::new(&config.templates)?, has_secrets: config.has_secrets(), config })
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
        let Some((name, profile)) = choice.profile else {
            let text = format!(
                "{} has no profile: give it one in [[machine]] or in a [[group]], or set profile in [default]",
                asked.called()
            );
            return Ok(Plan::Wait(text));
        };
        Ok(Plan::Boot(BootPlan {
            name: self.name(asked),
            profile: name.to_owned(),
            kind: profile.kind,
            kernel: profile.kernel_of(arch).to_owned(),
            initrds: profile.initrd_of(arch).to_vec(),
            args: self.args(asked, &choice, profile)?,
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
        let (_, profile) = choice.profile?;
        let template = profile.template.as_ref()?;
        let args = Some(plan.args.clone());
        let variables = Variables { args, again: Some(again), ..variables::of(&self.config, asked, &choice) };
        let script = self.templates.render(template, &variables);
        Some(script.map_err(|fault| {
            NoScript::Broken(format!("the script of {} cannot be written: {fault}", asked.called()))
        }))
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
            _ => choice,
        };
        choice.from_menu(&self.config, asked.chosen.as_deref())
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
