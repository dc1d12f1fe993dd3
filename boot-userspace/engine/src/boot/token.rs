//! Tokens of secret documents: each stands in one boot's script, and gives each secret document of that machine once.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use boot_common::Mac;
use subtle::ConstantTimeEq as _;

use super::link::VALID;
use super::plan::Asked;
use crate::config::DocumentKind;
use crate::lifecycle::State;
use crate::machines::MachineId;

/// Before the digits, so that a token is known for one wherever it stands.
const MARK: &str = "t-";
/// Bytes of a token.
pub const LENGTH: usize = 16;
/// Tokens that may be valid at once. The oldest one makes room for another.
const MOST: usize = 1 << 17;
/// So long a request may be a repeated one.
const REPEATED: Duration = Duration::from_secs(10);

/// A token. Neither its `Debug` nor any error shows it.
#[derive(Clone, Copy)]
pub struct Token([u8; LENGTH]);

impl Token {
    /// Of bytes that nobody can guess.
    #[must_use]
    pub const fn new(random: [u8; LENGTH]) -> Self {
        Self(random)
    }

    /// As URLs have it: `t-` and 32 hexadecimal digits.
    #[must_use]
    pub fn in_urls(&self) -> String {
        let mut text = MARK.to_owned();
        for byte in self.0 {
            // A String takes everything.
            write!(text, "{byte:02x}").ok();
        }
        text
    }

    /// A path without the tokens in it: for logs.
    #[must_use]
    pub fn hide(path: &str) -> String {
        let (mut shown, mut rest) = (String::with_capacity(path.len()), path);
        // Wherever they stand: a client may have written the slashes around one otherwise.
        while let Some(at) = rest.find(MARK) {
            let (before, from) = rest.split_at(at);
            let end = MARK.len() + 2 * LENGTH;
            shown.push_str(before);
            let is_token = from.get(..end).is_some_and(|text| Self::from_str(text).is_ok());
            shown.push_str(if is_token { "t-…" } else { MARK });
            rest = from.get(if is_token { end } else { MARK.len() }..).unwrap_or_default();
        }
        shown.push_str(rest);
        shown
    }

    /// In the same time wherever the first difference is.
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix(MARK).ok_or(())?.as_bytes();
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if digits.len() != 2 * LENGTH {
            return Err(());
        }
        let mut token = [0; LENGTH];
        for (byte, pair) in token.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = pair else { return Err(()) };
            *byte = digit(high).ok_or(())? << 4 | digit(low).ok_or(())?;
        }
        Ok(Self(token))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A server is compared with its token, in tests above all.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Token {}

/// Why a secret document is not given, or an agent is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// The URL has no token.
    #[error(
        "it is secret, and the URL has no token: only the URL in the machine's own script has one, if the machine has asked from the address of its lease"
    )]
    NoToken,
    /// No token is valid, or another one.
    #[error(
        "the token in the URL is not valid: the machine has got a newer script, xpxe was restarted since, or it is forged"
    )]
    NotValid,
    /// The token is another machine's, or another address has got it.
    #[error("the token in the URL is for another machine or address")]
    OfAnother,
    /// The script is too old.
    #[error("the token in the URL has expired: it is valid for an hour after the script was given")]
    Expired,
    /// It was given before.
    #[error("it was given already, and is given once per boot: boot the machine anew from the network")]
    Given,
    /// It is an agent's report of other work than what its machine is to do now.
    #[error(
        "this reports other work than what the machine is to do now, which was ordered after it got its script and asked for its task: ask for the task again, or boot the machine anew from the network"
    )]
    OfOtherWork,
}

/// Whose token it is. A client of no known machine has one however many machines it says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Machine(MachineId),
    Client(IpAddr),
}

impl Owner {
    fn of(asked: &Asked) -> Self {
        asked.asker.known.as_ref().map_or(Self::Client(asked.client_ip), |known| Self::Machine(known.id))
    }
}

/// One document under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    owner: Owner,
    issue: u64,
    kind: DocumentKind,
    number: u64,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay(u64),
    Given,
}

#[derive(Debug)]
struct Issued {
    token: Token,
    number: u64,
    client: IpAddr,
    /// The machine's own address, where somebody else has got the script for it.
    own: Option<IpAddr>,
    mac: Option<Mac>,
    /// Who has the address, where that is known.
    holder: Option<Mac>,
    until: Duration,
    /// The state in which the machine was told what to do, and since when it was in it.
    work: Option<(State, u64)>,
    documents: Vec<(DocumentKind, Fate)>,
}

/// The tokens that are valid: one for each machine.
#[derive(Debug)]
pub struct Tokens {
    issued: HashMap<Owner, Issued>,
    /// By age.
    order: BTreeMap<u64, Owner>,
    last: u64,
    dropped: u64,
    most: usize,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { issued: HashMap::new(), order: BTreeMap::new(), last: 0, dropped: 0, most: MOST }
    }
}

impl Tokens {
    /// Makes a token valid for the machine that gets a script now, and ends its one before. `now` runs with the boot clock.
    pub fn issue(&mut self, asked: &Asked, token: Token, now: Duration) {
        let owner = Owner::of(asked);
        let number = self.next();
        let issued = Issued {
            token,
            number,
            client: asked.client_ip,
            own: asked.address().map(IpAddr::from),
            mac: asked.mac,
            holder: holder(asked),
            until: now.saturating_add(Duration::from_secs(VALID)),
            work: work(asked),
            documents: Vec::new(),
        };
        if let Some(before) = self.issued.insert(owner, issued) {
            self.order.remove(&before.number);
        }
        self.order.insert(number, owner);
        if self.order.len() > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.issued.remove(&oldest);
            self.dropped += 1;
        }
    }

    /// The token of who asks if it has got that just now and used it for nothing: a request over UDP may come twice, and its
    /// sender takes the answer that comes first.
    #[must_use]
    pub fn unused(&self, asked: &Asked, now: Duration) -> Option<Token> {
        let issued = self.issued.get(&Owner::of(asked))?;
        let since = now.saturating_add(Duration::from_secs(VALID)).saturating_sub(issued.until);
        let is_same =
            (issued.client, issued.mac, issued.holder) == (asked.client_ip, asked.mac, holder(asked));
        (is_same && issued.documents.is_empty() && since < REPEATED).then_some(issued.token)
    }

    /// Whether a document may be given to who asks with this token, and whether it is under way already.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn check(
        &self,
        asked: &Asked,
        token: Option<&Token>,
        kind: DocumentKind,
        now: Duration,
    ) -> Result<bool, NoSecret> {
        let issued = self.issued_for(asked, token, now)?;
        match issued.documents.iter().find(|(known, _)| *known == kind) {
            Some((_, Fate::Given)) => Err(NoSecret::Given),
            Some((_, Fate::UnderWay(_))) => Ok(true),
            None => Ok(false),
        }
    }

    /// Whether who asks is the agent that this token was given for. While it asks, its token does not expire: a wipe may take
    /// longer than an hour.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn admit(&mut self, asked: &Asked, token: Option<&Token>, now: Duration) -> Result<(), NoSecret> {
        self.issued_for(asked, token, now)?;
        if let Some(issued) = self.issued.get_mut(&Owner::of(asked)) {
            issued.until = now.saturating_add(Duration::from_secs(VALID));
        }
        Ok(())
    }

    /// The agent is told now what to do: that is what it reports from here on.
    pub fn tell(&mut self, asked: &Asked, token: Option<&Token>) {
        let issued = self.issued.get_mut(&Owner::of(asked));
        if let Some(issued) = issued.filter(|issued| token.is_some_and(|token| issued.token.is(token))) {
            issued.work = work(asked);
        }
    }

    /// Whether an agent's report is of what its machine is to do now. One that comes twice is not taken for that of an order
    /// after it.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn check_report(&self, asked: &Asked, token: Option<&Token>, now: Duration) -> Result<(), NoSecret> {
        use State::{Allocated, Installing};
        let told = self.issued_for(asked, token, now)?.work;
        let Some(due) = work(asked) else { return Ok(()) };
        // In other states a report changes nothing: who got no answer to it says it again.
        let is_at_work = due.0.boots_agent() || matches!(due.0, Allocated | Installing);
        // It begins to be installed because it is told to.
        let is_begun = matches!((told, due.0), (Some((Allocated, _)), Installing));
        if is_at_work && !is_begun && told != Some(due) {
            return Err(NoSecret::OfOtherWork);
        }
        Ok(())
    }

    fn issued_for(&self, asked: &Asked, token: Option<&Token>, now: Duration) -> Result<&Issued, NoSecret> {
        let token = token.ok_or(NoSecret::NoToken)?;
        let issued = self.issued.get(&Owner::of(asked)).filter(|issued| issued.token.is(token));
        let issued = issued.ok_or(NoSecret::NotValid)?;
        let is_there = asked.client_ip == issued.client || Some(asked.client_ip) == issued.own;
        // Somebody else may have the address by now.
        let is_held = match (issued.holder, holder(asked)) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        };
        if !is_there || !is_held || asked.mac != issued.mac {
            return Err(NoSecret::OfAnother);
        }
        if issued.until < now {
            return Err(NoSecret::Expired);
        }
        Ok(issued)
    }

    /// Begins to give a document. Of several attempts the last one counts, until one has come to its end.
    ///
    /// # Errors
    /// It may not be given, and why.
    pub fn begin(
        &mut self,
        asked: &Asked,
        token: Option<&Token>,
        kind: DocumentKind,
        now: Duration,
    ) -> Result<Attempt, NoSecret> {
        self.check(asked, token, kind, now)?;
        let (owner, number) = (Owner::of(asked), self.next());
        let issued = self.issued.get_mut(&owner).ok_or(NoSecret::NotValid)?;
        issued.documents.retain(|(known, _)| *known != kind);
        issued.documents.push((kind, Fate::UnderWay(number)));
        Ok(Attempt { owner, issue: issued.number, kind, number })
    }

    /// An attempt has ended: with the whole document at the client, or before.
    pub fn end(&mut self, attempt: Attempt, is_given: bool) {
        let issued = self.issued.get_mut(&attempt.owner).filter(|issued| issued.number == attempt.issue);
        let Some(issued) = issued else { return };
        match issued.documents.iter_mut().find(|(kind, _)| *kind == attempt.kind) {
            Some((_, fate)) if is_given => *fate = Fate::Given,
            Some((_, Fate::UnderWay(number))) if *number == attempt.number => {
                issued.documents.retain(|(kind, _)| *kind != attempt.kind);
            }
            _ => {}
        }
    }

    /// How many are valid, but for those that have expired meanwhile; how many had to make room for others.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        (self.issued.len(), self.dropped)
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

fn work(asked: &Asked) -> Option<(State, u64)> {
    asked.life().map(|life| (life.state, life.since))
}

fn holder(asked: &Asked) -> Option<Mac> {
    asked.asker.client.as_ref().map(|client| client.mac)
}

#[cfg(test)]
mod tests;
