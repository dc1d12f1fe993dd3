//! What the kernel half is told. A table that is full or gone costs speed, not service.

use boot_common::tables::{Answer, AnswerKey, MAX_ANSWERS};
use tracing::{debug, info, warn};

use super::event_loop::Daemon;
use crate::fastpath::{TableError, Tables};

/// Says that the kernel half does not know something.
pub(super) fn not_taken(what: &str, failure: &TableError) {
    debug!("the kernel did not take the {what}, the daemon answers for it: {failure}");
}

impl Daemon {
    /// Tells the kernel something.
    pub(super) fn tell(&mut self, what: &str, write: impl FnOnce(&mut Tables) -> Result<(), TableError>) {
        if let Some(tables) = &mut self.tables
            && let Err(failure) = write(tables)
        {
            not_taken(what, &failure);
        }
    }

    /// Tells the kernel an answer.
    pub(super) fn tell_answer(&mut self, key: &AnswerKey, answer: &Answer) {
        let Some(tables) = &mut self.tables else { return };
        match tables.put_answer(key, answer) {
            Ok(()) => drop(self.refused.remove(key)),
            Err(failure) => {
                if self.refused.is_empty() {
                    warn!(
                        "the kernel's table of prepared answers is full ({MAX_ANSWERS}): the daemon answers where they do not \
                         fit, which is slower ({failure}). Machines with options of their own need the most room: give them \
                         the options in a [[profile]] or [[group]]"
                    );
                }
                self.refused.insert(*key);
            }
        }
    }

    /// Has the kernel forget an answer.
    pub(super) fn untell_answer(&mut self, key: &AnswerKey) {
        self.tell("answer", |tables| tables.delete_answer(key));
        self.refused.remove(key);
        // What had no room so far has some now.
        let next = self.refused.iter().next().copied();
        if let Some(next) = next {
            match self.engine.answer(&next).copied() {
                Some(answer) => self.tell_answer(&next, &answer),
                None => drop(self.refused.remove(&next)),
            }
            if self.refused.is_empty() {
                info!("the kernel's table of prepared answers has room again: it has all of them");
            }
        }
    }
}
