//! What xpxe's agent does on the machine that asks: its state decides.

use boot_agent_protocol::{Task, Then};

use super::plan::{Asked, Planner};
use super::stage::{Stage, stage};
use super::url::url;
use crate::lifecycle::State;

/// How often an agent that has nothing to do asks again, in seconds.
const ASK_AGAIN: u32 = 10;

impl Planner {
    /// What the agent on the machine that asks does next. Whether it may ask is for [its token](super::token) to say.
    #[must_use]
    pub fn agent_task(&self, asked: &Asked) -> Task {
        let config = self.config();
        let wait = |why: &str| Task::Wait { seconds: ASK_AGAIN, why: why.to_owned() };
        let end = |why: String| Task::End { then: Then::Reboot, why };
        let Some(life) = asked.life() else {
            return wait("this machine is not in the registry: add it (xpxe machines add)");
        };
        if life.waits_to_be_served() {
            return wait(&life.says);
        }
        match life.state {
            State::Discovered => {
                wait("nobody has accepted this machine: accept or ignore it (xpxe machines)")
            }
            State::Accepted | State::Released if config.lifecycle.wipe => {
                Task::Wipe { method: config.agent.wipe, then: config.agent.then }
            }
            State::Allocated | State::Installing if !life.is_written => {
                match asked.machine().and_then(|machine| machine.image.as_deref()) {
                    Some(image) => Task::Write {
                        url: url(&asked.server, &image.url),
                        sha256: image.sha256.to_ascii_lowercase(),
                        disk: image.disk.clone(),
                        then: Then::Reboot,
                    },
                    None => end("its installer is not the agent".to_owned()),
                }
            }
            state => end(format!("this machine is {state}: there is nothing to do")),
        }
    }

    /// Whether the machine that asks boots the agent, or another system that stands in for it.
    pub(super) fn boots_agent(&self, asked: &Asked) -> bool {
        asked.machine().is_some() && matches!(stage(self.config(), asked), Ok(Stage::Other(_)))
    }
}
