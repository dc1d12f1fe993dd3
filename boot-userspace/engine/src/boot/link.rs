//! Links that one machine can use, from its own address, for a while.
//!
//! Whoever sees such a link can use it only from that address. The bytes themselves are not encrypted: that is HTTPS.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use boot_common::Mac;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

/// How long a link can be used: a machine fetches its initrds before its kernel, over a network that may be slow. Seconds.
pub const VALID: u64 = 3600;
/// What a signature is of, so that it is of nothing else.
const PURPOSE: &[u8] = b"xpxe link 1\n";

/// What links are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkKey(Arc<[u8; 32]>);

impl LinkKey {
    /// With a secret that nobody can guess.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Arc::new(secret))
    }

    fn of(&self, path: &str, holder: Option<Mac>, client: IpAddr, until: u64) -> Option<Hmac<Sha256>> {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&*self.0).ok()?;
        hmac.update(PURPOSE);
        // No part has a line's end in it but the path, which is last.
        hmac.update(format!("{until}\n{client}\n{}\n{path}", written(holder)).as_bytes());
        Some(hmac)
    }

    /// Whether a link can be used for `path`, which is not percent-encoded, by `client`, whose address `holder` has, at `now`
    /// (Unix time).
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn check(
        &self,
        path: &str,
        query: Option<&str>,
        (client, holder): (IpAddr, Option<Mac>),
        now: u64,
    ) -> Result<(), BadLink> {
        let value = |name: &str| {
            let parts = query.unwrap_or_default().split('&').filter_map(|part| part.split_once('='));
            parts.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let Some(signature) = value("signature") else { return Err(BadLink::Unsigned) };
        let read = || {
            let until: u64 = value("until")?.parse().ok()?;
            let address: IpAddr = value("address")?.parse().ok()?;
            let mac = match value("machine")? {
                NOBODY => None,
                mac => Some(mac.parse::<Mac>().ok()?),
            };
            let signature = from_hex(signature)?;
            // Compares in the same time wherever the first difference is.
            self.of(path, mac, address, until)?.verify_slice(&signature).ok()?;
            Some((until, address, mac))
        };
        let (until, address, mac) = read().ok_or(BadLink::Changed)?;
        if address != client {
            return Err(BadLink::OfAnother(address.to_string()));
        }
        if let (Some(mac), Some(holder)) = (mac, holder)
            && mac != holder
        {
            return Err(BadLink::OfAnother(mac.to_string()));
        }
        if until < now {
            return Err(BadLink::Expired { seconds: now - until });
        }
        Ok(())
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey")
    }
}

/// Why a link cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// It has no signature.
    #[error("the link has no signature; with signed_links in [http] only the links in scripts can be used")]
    Unsigned,
    /// Its signature is of something else.
    #[error("the link was changed, or another key has signed it")]
    Changed,
    /// It is for another machine: its address or MAC.
    #[error("the link is for {0} only")]
    OfAnother(String),
    /// Its time is over.
    #[error("the link has expired {seconds} s ago; the machine's script has a new one")]
    Expired {
        /// Since when.
        seconds: u64,
    },
}

/// Who signs the links of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// With what.
    pub key: LinkKey,
    /// Who has the address that they are for.
    pub holder: Option<Mac>,
    /// The address.
    pub client: IpAddr,
    /// How long they can be used, in Unix time.
    pub until: u64,
}

impl Signer {
    /// What stands behind the `?` of a link to `path`, which is not percent-encoded.
    #[must_use]
    pub fn query(&self, path: &str) -> String {
        let Self { key, holder, client, until } = self;
        let signature = key.of(path, *holder, *client, *until).map(|hmac| hmac.finalize().into_bytes());
        let signature: String = signature.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
        let machine = written(*holder);
        format!("until={until}&address={client}&machine={machine}&signature={signature}")
    }
}

const NOBODY: &str = "none";

/// With hyphens, which no client of HTTP encodes.
fn written(holder: Option<Mac>) -> String {
    holder.map_or_else(|| NOBODY.to_owned(), |mac| mac.to_string().replace(':', "-"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests;
