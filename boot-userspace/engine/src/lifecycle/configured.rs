//! What the configuration says of the lives of all machines.

use super::next::Rules;
use super::state::State;
use crate::config::{Config, Lifecycle};

impl From<&Config> for Rules {
    fn from(config: &Config) -> Self {
        let settings: &Lifecycle = &config.lifecycle;
        let limit = |(name, limit): (&String, &std::time::Duration)| {
            Some((name.parse::<State>().ok()?, limit.as_secs()))
        };
        Self {
            has_agent: settings.agent.is_some(),
            wipes: settings.wipe,
            limits: settings.limits.iter().filter_map(limit).collect(),
            pause: config.bmc.pause.as_secs(),
            poll: config.bmc.poll.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LIMITED;

    #[test]
    fn the_limits_in_the_file_are_of_states_that_exist() {
        assert!(LIMITED.iter().all(|name| name.parse::<State>().is_ok()), "{LIMITED:?}");
        assert_eq!(LIMITED.len() + 1, State::ALL.len(), "all but that of who is ignored");
        assert_eq!(Rules::from(&Config::empty()).limits.get(&State::Installing), Some(&3600));
    }
}
