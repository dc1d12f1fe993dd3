//! What people and rules order, and what is wanted after that.

use super::intent::{Intent, Wanted};
use super::state::State;
use super::status::Status;

/// What somebody wants of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It belongs here; the opposite of ignoring it, too.
    Accept,
    /// It gets no answer any more.
    Ignore,
    /// It is to run its profile.
    Allocate,
    /// Nobody uses it any more.
    Release,
    /// Wipe it, whatever it does now.
    Wipe,
    /// Install its profile anew.
    Reinstall,
    /// Leave it alone. Says why.
    Maintain(String),
    /// It is as before it was to be left alone.
    Resume,
}

/// Why an order cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It is ignored.
    #[error("the machine is ignored: accept it first")]
    Ignored,
    /// Nobody has accepted it.
    #[error("the machine was never accepted, so there is nothing to release: accept it, or ignore it")]
    NeverAccepted,
}

impl Intent {
    /// What is wanted after an order. The same as before where it is wanted already.
    ///
    /// # Errors
    /// The order cannot be given to this machine.
    pub fn after(&self, order: &Order, status: &Status) -> Result<Self, OrderError> {
        let mut after = self.clone();
        if self.ignored && !matches!(order, Order::Accept | Order::Ignore) {
            return Err(OrderError::Ignored);
        }
        let has_failed = status.state == State::Failed && self.order <= status.order;
        match order {
            Order::Ignore => after.ignored = true,
            Order::Maintain(why) => after.maintenance = Some(why.clone()),
            Order::Resume => after.maintenance = None,
            Order::Accept => {
                after.ignored = false;
                if self.wanted == Wanted::Hold || has_failed {
                    after.wanted = self.wanted.max(Wanted::Pool);
                    after.order += 1;
                }
            }
            Order::Allocate if self.wanted != Wanted::Run || has_failed => {
                after.wanted = Wanted::Run;
                after.order += 1;
            }
            Order::Allocate => {}
            Order::Release if self.wanted == Wanted::Hold => return Err(OrderError::NeverAccepted),
            Order::Release if self.wanted != Wanted::Pool || has_failed => {
                after.wanted = Wanted::Pool;
                after.order += 1;
            }
            Order::Release => {}
            Order::Wipe => {
                after.wanted = Wanted::Pool;
                let is_due = self.wipe > status.wiped || status.state.boots_agent();
                if !is_due || has_failed {
                    after.order += 1;
                    after.wipe = after.order;
                }
            }
            Order::Reinstall => {
                let is_due = self.install > status.installed
                    || (self.wanted == Wanted::Run && status.state == State::Allocated);
                after.wanted = Wanted::Run;
                if !is_due || has_failed {
                    after.order += 1;
                    after.install = after.order;
                }
            }
        }
        Ok(after)
    }
}
