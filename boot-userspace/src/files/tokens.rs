//! The tokens of secret documents, for everybody who writes what machines boot.

use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::rand::rand_bytes;

use crate::host::clock;
use boot_engine::boot::plan::Asked;
use boot_engine::boot::token::{Attempt, LENGTH, NoSecret, Token, Tokens};
use boot_engine::config::DocumentKind;

/// Those that are valid. They are in memory only: after a restart a machine needs a new script.
#[derive(Debug, Default)]
pub struct DocumentTokens(Mutex<Tokens>);

impl DocumentTokens {
    /// Who asks for a script, with a token of its own. The one of its script before ends, unless only the length is asked for.
    #[must_use]
    pub fn issue(&self, asked: Asked, is_head: bool) -> Asked {
        let mut random = [0; LENGTH];
        // Without one the machine boots, and gets no secret document.
        if let Err(error) = rand_bytes(&mut random) {
            tracing::error!(
                "there is no token for secret documents, because OpenSSL gives no random bytes: {error}"
            );
            return asked;
        }
        let token = Token::new(random);
        if !is_head {
            self.lock().issue(&asked, token, clock::boot());
        }
        let server = asked.server.with_token(Some(token));
        Asked { server, ..asked }
    }

    /// The same over UDP, where a request may come twice.
    #[must_use]
    pub fn issue_by_datagram(&self, asked: Asked) -> Asked {
        let unused = self.lock().unused(&asked, clock::boot());
        match unused {
            Some(token) => Asked { server: asked.server.clone().with_token(Some(token)), ..asked },
            None => self.issue(asked, false),
        }
    }

    /// Whether a document may be given to who asks, and whether it is under way already.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn check(&self, asked: &Asked, kind: DocumentKind) -> Result<bool, NoSecret> {
        self.lock().check(asked, asked.server.token(), kind, clock::boot())
    }

    /// Whether who asks is the agent that the token was given for.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn admit(&self, asked: &Asked) -> Result<(), NoSecret> {
        self.lock().admit(asked, asked.server.token(), clock::boot())
    }

    /// An agent is told now what to do.
    pub fn tell(&self, asked: &Asked) {
        self.lock().tell(asked, asked.server.token());
    }

    /// Whether an agent's report is of what its machine is to do now.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn check_report(&self, asked: &Asked) -> Result<(), NoSecret> {
        self.lock().check_report(asked, asked.server.token(), clock::boot())
    }

    /// Begins to give a document.
    ///
    /// # Errors
    /// It may not be given, and why.
    pub fn begin(&self, asked: &Asked, kind: DocumentKind) -> Result<Attempt, NoSecret> {
        self.lock().begin(asked, asked.server.token(), kind, clock::boot())
    }

    /// An attempt has ended: with the whole document at the client, or before.
    pub fn end(&self, attempt: Attempt, is_given: bool) {
        self.lock().end(attempt, is_given);
    }

    /// How many are valid, and how many had to make room for others.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
