//! What the state of a machine has to do with what it boots. Everybody who answers a machine asks here.

use super::asked::Asked;
use super::no_script::NoScript;
use crate::config::{Config, Machine, Unknown};
use crate::lifecycle::State;
use crate::machines::Life;

/// Which profile a machine boots, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage<'c> {
    /// Its own.
    Own,
    /// This one, whatever is its own.
    Other(&'c str),
    /// None yet; says what it waits for.
    Wait(String),
}

/// What the machine that asks boots in its state. Machines of the configuration have none, and boot their profile.
///
/// # Errors
/// It is not to be booted from here.
pub(super) fn stage<'c>(config: &'c Config, asked: &Asked) -> Result<Stage<'c>, NoScript> {
    stage_of(config, asked.machine(), asked.life(), || asked.called())
}

/// The same of a machine that need not ask. One without a name is called as `unnamed` says.
///
/// # Errors
/// It is not to be booted from here.
pub(crate) fn stage_of<'c>(
    config: &'c Config,
    machine: Option<&Machine>,
    life: Option<&Life>,
    unnamed: impl Fn() -> String,
) -> Result<Stage<'c>, NoScript> {
    let settings = &config.lifecycle;
    let called = || machine.and_then(|machine| machine.name.clone()).unwrap_or_else(&unnamed);
    let or_wait = |profile: &'c Option<String>, why: String| match profile {
        Some(name) => Stage::Other(name),
        None => Stage::Wait(why),
    };
    let Some(life) = life else {
        return match config.default.unknown {
            _ if machine.is_some() => Ok(Stage::Own),
            Unknown::Boot => Ok(Stage::Own),
            Unknown::Discover => {
                let why = format!("{} is not in the configuration yet: waiting", called());
                Ok(or_wait(&settings.discovery, why))
            }
            Unknown::Ignore => Err(NoScript::NotForYou(format!(
                "{} is not in the configuration, and unknown = \"ignore\"",
                called()
            ))),
        };
    };
    let waits = || format!("{} is {}: {}", called(), life.state, plain(&life.says));
    if life.waits_to_be_served() {
        return Ok(Stage::Wait(waits()));
    }
    Ok(match life.state {
        State::Discovered => or_wait(&settings.discovery, waits()),
        State::Accepted | State::Released if settings.wipe => or_wait(&settings.agent, waits()),
        State::Accepted | State::Released | State::Ready | State::Maintenance | State::Failed => {
            Stage::Wait(waits())
        }
        State::Allocated | State::Installing if machine.is_some_and(|own| own.image.is_some()) => {
            if life.is_written {
                let why = format!("the image of {} is on its disk: it boots from there", called());
                return Err(NoScript::NotForYou(why));
            }
            let why = format!(
                "{} has an image, and there is no agent to write it: set agent in lifecycle",
                called()
            );
            or_wait(&settings.agent, why)
        }
        State::Allocated | State::Installing => Stage::Own,
        State::Running => {
            let own = machine.and_then(|machine| machine.profile.as_ref());
            let profile = own.or(config.default.profile.as_ref());
            if !life.is_unserved && profile.is_some_and(|name| settings.live.contains(name)) {
                Stage::Own
            } else {
                return Err(NoScript::NotForYou(format!("{} runs: it boots from its disk", called())));
            }
        }
        State::Ignored => return Err(NoScript::NotForYou(format!("{} is ignored", called()))),
    })
}

/// How long a text for a console is.
const LONGEST: usize = 300;

/// A text for a console, in which no loader finds a command, a variable or the end of a line: machines' own words are in it.
pub(super) fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || " .,:'_-()/+@=".contains(c);
    let plain = |c: char| match c {
        ';' => ',',
        c if is_plain(c) => c,
        _ => '_',
    };
    text.chars().take(LONGEST).map(plain).collect()
}

#[cfg(test)]
mod tests;
