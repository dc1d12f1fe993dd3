//! A MAC as text, in JSON.

use boot_common::Mac;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(mac: &Mac, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(mac)
}

pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Mac, D::Error> {
    let text = <std::borrow::Cow<'d, str>>::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text} is no MAC")))
}
