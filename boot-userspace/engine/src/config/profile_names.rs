//! The names of profiles, for whatever names one: groups, machines and `[default]`.

use std::collections::HashMap;

use super::report::{At, Report};
use super::value::{MAX_ARGS, did_you_mean, quoted};

/// The names of the profiles, with where they stand and how long their arguments are.
pub(super) struct ProfileNames<'f> {
    pub(super) known: HashMap<&'f str, Length>,
    /// Every profile has a name that could be read, so a name that is not known is a mistake.
    pub(super) complete: bool,
}

/// What there is to boot of a profile.
pub(super) enum Length {
    /// A kernel with arguments of so many bytes.
    Arguments(usize),
    /// No kernel: others inherit the rest.
    Inherited,
}

impl ProfileNames<'_> {
    /// The name, if there is such a profile.
    pub(super) fn find(&self, name: &str) -> Result<String, String> {
        match self.known.get(name) {
            Some(Length::Arguments(_)) => Ok(name.to_owned()),
            Some(Length::Inherited) => Err(format!(
                "the profile {} has no kernel, so it can only be inherited; name one that has, or give it one",
                quoted(name)
            )),
            None if !self.complete => Ok(name.to_owned()),
            None => {
                let hint = did_you_mean(name, self.known.keys().copied());
                Err(format!(
                    "there is no profile {}{hint}; write a [[profile]] with this name or name another",
                    quoted(name)
                ))
            }
        }
    }

    /// The kernel gets the arguments of the profile, of groups (`between` bytes), and of the machine, with spaces between
    /// them.
    pub(super) fn with_args(
        &self,
        args: &At<String>,
        profile: Option<&str>,
        between: usize,
        report: &mut Report<'_>,
    ) {
        let of_profile = profile.and_then(|name| self.known.get(name));
        let Some(Length::Arguments(of_profile)) = of_profile else { return };
        let total = of_profile + 1 + between + args.value.len();
        if total > MAX_ARGS {
            let what = if between > 0 { "profile and its groups" } else { "profile" };
            let message = format!(
                "has {total} bytes with the arguments of its {what}; shorten it to at most {MAX_ARGS}"
            );
            report.add(&args.place, message);
        }
    }
}
