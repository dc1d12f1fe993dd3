//! Images of the content store as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::http::admin::rfc3339;
use crate::images::{ImageError, Images, Record, named, shown};
use boot_engine::config::{Config, ImageName, ImageRef, ImageSource};
use boot_engine::machines::Machines;

/// How many machines are named whose disks an image is written to.
const MOST_NAMED: usize = 100;

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Image)]
pub struct ShownImage {
    /// Its name.
    pub name: String,
    /// `here`, `here, not expected`, `here, upstream away`, `upstream`, `upstream, part here`, `gone` or `unreadable`.
    pub state: String,
    /// Where it comes from, without what may be secret of its URL; none: from a file.
    pub url: Option<String>,
    /// The SHA-256 that it has to have.
    pub expected: Option<String>,
    /// The SHA-256 that it has.
    pub sha256: Option<String>,
    /// In bytes; of one that has never been here as a whole, what has come so far.
    pub size: u64,
    /// It stays when others have to make room.
    pub pinned: bool,
    /// When it came (RFC 3339).
    pub fetched: Option<String>,
    /// When it was last the same as the upstream's (RFC 3339).
    pub checked: Option<String>,
    /// When it was last wanted (RFC 3339).
    pub last_used: Option<String>,
    /// Why it could not be fetched, compared or read.
    pub trouble: Option<String>,
    /// What names it: `kernel of profile talos`, `disk of node7`; of many machines some.
    pub used_by: Vec<String>,
}

/// Every image, in the order of the names.
pub(super) fn all(
    store: &Images,
    config: &Config,
    machines: &Machines,
) -> Result<Vec<ShownImage>, ImageError> {
    let mut used: BTreeMap<ImageName, (Option<ImageSource>, Vec<String>)> = BTreeMap::new();
    let of_machines = machines.all().into_iter().filter_map(|known| {
        let image = ImageRef::read(&known.machine.image.as_ref()?.url)?.ok()?;
        let mac = || known.machine.macs.first().map(ToString::to_string);
        let called = known.machine.name.clone().or_else(mac).unwrap_or_default();
        Some((image, format!("disk of {called}")))
    });
    for (image, place) in named(config).into_iter().chain(of_machines) {
        let (source, places) = used.entry(image.name).or_default();
        *source = source.take().or(image.source);
        if places.len() < MOST_NAMED {
            places.push(place);
        }
    }
    let mut all = Vec::new();
    for (name, record) in store.list()? {
        let (_, used_by) = used.remove(&name).unwrap_or_default();
        all.push(match record {
            Ok(record) => ShownImage { used_by, ..ShownImage::of(store, &name, &record) },
            Err(error) => ShownImage {
                name: name.to_string(),
                state: "unreadable".to_owned(),
                trouble: Some(error.to_string()),
                used_by,
                ..ShownImage::default()
            },
        });
    }
    all.extend(used.into_iter().map(|(name, (source, used_by))| {
        let state = if source.is_some() { "upstream" } else { "gone" };
        let expected = source.as_ref().and_then(|source| source.sha256).map(|digest| digest.to_string());
        ShownImage {
            name: name.to_string(),
            state: state.to_owned(),
            url: source.map(|source| shown(&source.url)),
            expected,
            used_by,
            ..ShownImage::default()
        }
    }));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

impl ShownImage {
    fn of(store: &Images, name: &ImageName, record: &Record) -> Self {
        let time = |seconds: u64| (seconds > 0).then(|| rfc3339(seconds));
        Self {
            name: name.to_string(),
            state: store.state(name, record).to_owned(),
            url: record.url.as_deref().map(shown),
            expected: record.expected.map(|digest| digest.to_string()),
            sha256: record.sha256.map(|digest| digest.to_string()),
            size: store.size_of(name, record),
            pinned: record.stays(),
            fetched: time(record.fetched),
            checked: time(record.checked),
            last_used: store.last_used(record).map(|time| rfc3339(time.as_secs())),
            trouble: record.trouble.clone(),
            used_by: Vec::new(),
        }
    }
}
