//! Power in the API: what is shown of it, and what may be asked.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::daemon::request::{Boot, PowerAsk, Powered, Reading};
use boot_engine::lifecycle::{Act, Blindness, Done, Power as Known};

/// What is known of a machine's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Power {
    /// `on`, `off`, or `unknown`: before two readings agree.
    pub is: String,
    /// When that was read for the second time, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// Why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// How often it was tried to switch the machine as its state wants it, without success.
    pub tries: usize,
    /// The last command to its BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
}

/// A command, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PowerCommand)]
pub struct Last {
    /// `on`, `off`, `cycle` or `reset-bmc`.
    pub command: String,
    /// When it was given, in Unix seconds.
    pub at: u64,
    /// Who gave it.
    pub by: String,
    /// `waiting`, `done` or `failed`.
    pub end: String,
    /// Why it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&Known> for Power {
    fn from(power: &Known) -> Self {
        let unknown = power.blind.as_ref().map(|blind| match blind {
            Blindness::CannotTell => "what switches it cannot tell".to_owned(),
            Blindness::Failed(why) => why.clone(),
        });
        Self {
            is: word(power.is_on()).to_owned(),
            read: power.read.filter(|_| power.confirmed).map(|(_, at)| at),
            unknown,
            tries: power.tries(),
            last: power.last.as_ref().map(Last::from),
        }
    }
}

impl From<&Done> for Last {
    fn from(Done { act, at, by, end }: &Done) -> Self {
        let (end, error) = match end {
            None => ("waiting", None),
            Some(Ok(())) => ("done", None),
            Some(Err(why)) => ("failed", Some(why.clone())),
        };
        Self { command: act.name().to_owned(), at: *at, by: by.clone(), end: end.to_owned(), error }
    }
}

fn word(is_on: Option<bool>) -> &'static str {
    match is_on {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    }
}

/// What a BMC has done, or said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Powered)]
pub struct Answered {
    /// How the machine is called.
    pub machine: String,
    /// `on`, `off`, `changing` or `unknown`, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
}

impl From<Powered> for Answered {
    fn from(Powered { name, reading }: Powered) -> Self {
        let word = |reading| match reading {
            Reading::On => "on",
            Reading::Off => "off",
            Reading::Changing => "changing",
            Reading::CannotTell => "unknown",
        };
        Self { machine: name, power: reading.map(|reading| word(reading).to_owned()) }
    }
}

/// The parameters of a command.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// `on`, `off`, `cycle`, `reset-bmc` or `status`.
    #[param(schema_with = commands, required = true)]
    command: String,
    /// What it boots from next, with `on` and `cycle`: `pxe`, `http` or `disk`.
    #[param(schema_with = boots)]
    boot: String,
}

fn commands() -> Object {
    one_of(Act::ALL.into_iter().map(Act::name).chain(["status"]))
}

fn boots() -> Object {
    one_of(BOOTS.into_iter().map(Boot::name))
}

fn one_of(words: impl Iterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// What a machine may boot from next.
const BOOTS: [Boot; 3] = [Boot::Pxe, Boot::Http, Boot::Disk];

impl Asked {
    /// What it is.
    pub(super) fn read(&self) -> Result<PowerAsk, String> {
        let act = Act::ALL.into_iter().find(|act| act.name() == self.command);
        if act.is_none() && self.command != "status" {
            return Err(format!(
                "{:?} is no command: write on, off, cycle, reset-bmc or status",
                self.command
            ));
        }
        let boot = BOOTS.into_iter().find(|boot| boot.name() == self.boot);
        if boot.is_none() && !self.boot.is_empty() {
            return Err(format!("{:?} is nothing to boot from: write pxe, http or disk", self.boot));
        }
        if boot.is_some() && !matches!(act, Some(Act::On | Act::Cycle)) {
            return Err("boot goes with on or cycle".to_owned());
        }
        Ok(PowerAsk { act, boot })
    }
}
