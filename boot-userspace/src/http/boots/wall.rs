//! The wall: every machine with how far its last boot has come, and what has changed since somebody looked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use boot_common::Mac;
use serde::{Deserialize, Serialize};

use super::judged::{Around, Boots};
use super::{AT_ONCE, Failed, History, Shared, json, work};
use crate::host::clock;
use boot_engine::diagnosis::{Boot, Cause, Progress, never_asked};
use boot_engine::lifecycle::State as Stage;
use boot_engine::machines::{Known, MachineId};

/// How many machines are on the wall; those beyond are counted.
const MOST: usize = 20_000;
/// How many machines that left the wall are remembered. Who has not looked for longer gets all of it.
const MOST_GONE: usize = 10_000;
/// The wall is made anew after this time.
const EVERY: Duration = Duration::from_secs(1);
/// And after so many times the time that it takes: whoever looks, it is a small part of one core.
const REST: u32 = 10;

/// A machine on the wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tile {
    /// Which it is, as in `/api/v1/why/{which}`: its MAC that was heard last, its first one, or else its name.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its MACs, where it has others beside `id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<String>,
    /// Its state, if it is of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Stage>,
    /// How far its last boot has come.
    pub progress: Progress,
    /// The name of the verdict's cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Somebody has to do something about that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrong: bool,
    /// When the boot began, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<u64>,
    /// When something happened last, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

/// The wall, or what has changed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Wall)]
pub struct ShownWall {
    /// What to ask for the next changes with.
    pub revision: u64,
    /// The server's time, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Everything is here: what is not has left the wall.
    pub whole: bool,
    /// The machines.
    pub machines: Vec<Tile>,
    /// Those that left the wall.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// How many machines more there are.
    pub left_out: usize,
    /// Of how many boots the firmware was offered an address, and of how many in its first window.
    pub first_window: FirstWindow,
}

/// Boots whose firmware was offered an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirstWindow {
    /// In its first window.
    pub at_once: usize,
    /// At all.
    pub of: usize,
}

/// The wall as it was made last. Clones are the same.
#[derive(Clone, Default)]
pub struct Wall(Arc<Mutex<Made>>);

#[derive(Default)]
struct Made {
    /// When, and how long it took.
    made: Option<(Duration, Duration)>,
    /// Counts from the time of its first making, so that none of another daemon's is taken for one of this.
    revision: u64,
    tiles: BTreeMap<String, (u64, Tile)>,
    gone: VecDeque<(u64, String)>,
    /// Changes from behind this revision on are known.
    known_from: u64,
    left_out: usize,
    first_window: FirstWindow,
}

/// `?after=REVISION`
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Looked {
    /// The revision of the last answer.
    after: u64,
}

/// Every machine with how far its last boot has come, or what has changed since a revision.
#[utoipa::path(
    get,
    path = super::WALL,
    operation_id = "wall",
    params(Looked),
    responses((status = 200, body = ShownWall))
)]
pub(super) async fn wall(
    State(history): Shared,
    Query(Looked { after }): Query<Looked>,
) -> Result<Response, Failed> {
    work(history, move |history| Ok(json(StatusCode::OK, &history.wall(after)))).await
}

impl History {
    fn wall(&self, after: u64) -> ShownWall {
        let mut made = self.wall.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::boot();
        if made.made.is_none_or(|(at, took)| now >= at + EVERY.max(took * REST)) {
            let (tiles, left_out, first_window) = self.tiles();
            made.put(tiles, millis(clock::now().wall));
            (made.left_out, made.first_window) = (left_out, first_window);
            let end = clock::boot();
            made.made = Some((end, end - now));
        }
        made.show(after)
    }

    fn tiles(&self) -> (Vec<Tile>, usize, FirstWindow) {
        let (heard, around) = (self.heard(), self.around());
        let mut cards: HashMap<MachineId, Vec<Mac>> = HashMap::new();
        let mut strangers = Vec::new();
        for mac in heard {
            match self.machines.by_mac(mac) {
                Some(known) => cards.entry(known.id).or_default().push(mac),
                None => strangers.push(mac),
            }
        }
        let known = self.machines.all();
        let all = known.len() + strangers.len();
        let of_known = known.into_iter().map(|known| {
            let heard = cards.remove(&known.id).unwrap_or_default();
            (Some(known), heard)
        });
        let of_strangers = strangers.into_iter().map(|mac| (None, vec![mac]));
        let chosen: Vec<_> = of_known.chain(of_strangers).take(MOST).collect();
        let mut first_window = FirstWindow::default();
        let mut tiles = Vec::with_capacity(chosen.len());
        for some in chosen.chunks(AT_ONCE) {
            let macs: Vec<Mac> = some.iter().flat_map(|(_, heard)| heard.iter().copied()).collect();
            let mut boots: HashMap<Mac, Boots> = macs.iter().copied().zip(self.copied(&macs)).collect();
            for (known, heard) in some {
                let newest = heard
                    .iter()
                    .filter_map(|mac| boots.remove(mac))
                    .max_by_key(|of| of.boots.first().map_or(0, |boot| boot.opened));
                for boot in newest.iter().flat_map(|of| &of.boots) {
                    if let Some(is_at_once) = boot.is_answered_at_once() {
                        first_window.of += 1;
                        first_window.at_once += usize::from(is_at_once);
                    }
                }
                tiles.push(self.tile(known.as_ref(), heard, &newest.unwrap_or_default(), &around));
            }
        }
        (tiles, all - chosen.len(), first_window)
    }

    fn tile(&self, known: Option<&Known>, heard: &[Mac], of: &Boots, around: &Around) -> Tile {
        let last = of.boots.first();
        let verdict = match last {
            Some(_) => self.verdict(around, of, 0),
            None => known.map(|known| {
                let mac = known.machine.macs.first().copied();
                never_asked(&self.facts(mac, Some(known), None), self.boots.since(), self.keeps_all())
            }),
        };
        let cause = verdict.map(|verdict| verdict.cause);
        let mac =
            last.map(|boot| boot.mac).or_else(|| known.and_then(|known| known.machine.macs.first().copied()));
        let mut macs: Vec<Mac> = known.map(|known| known.machine.macs.clone()).unwrap_or_default();
        macs.extend(heard);
        macs.sort_unstable();
        macs.dedup();
        macs.retain(|other| Some(*other) != mac);
        let name = known.and_then(|known| known.machine.name.clone());
        let name = name.or_else(|| mac.and_then(|mac| self.machines.client(mac).name));
        Tile {
            id: mac.map_or_else(|| name.clone().unwrap_or_default(), |mac| mac.to_string()),
            labels: known.map(|known| known.machine.labels.clone()).unwrap_or_default(),
            macs: macs.iter().map(Mac::to_string).collect(),
            state: known.and_then(|known| known.life.as_ref()).map(|life| life.state),
            progress: last.map_or(Progress::Silent, |boot| Progress::of(boot, cause)),
            wrong: cause.is_some_and(Cause::is_wrong),
            cause: cause.map(|cause| cause.name().to_owned()),
            opened: last.map(|boot| boot.opened),
            last: last.map(Boot::last),
            name,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Made {
    /// Takes the wall as it is now. `now` is in milliseconds since the Unix epoch.
    fn put(&mut self, tiles: Vec<Tile>, now: u64) {
        if self.revision == 0 {
            self.revision = now;
            self.known_from = now;
        }
        let next = self.revision + 1;
        let mut before = std::mem::take(&mut self.tiles);
        for tile in tiles {
            let was = before.remove(&tile.id);
            let revision = match was {
                Some((revision, was)) if was == tile => revision,
                _ => {
                    self.revision = next;
                    next
                }
            };
            self.tiles.insert(tile.id.clone(), (revision, tile));
        }
        for id in before.into_keys() {
            self.revision = next;
            self.gone.push_back((next, id));
        }
        while self.gone.len() > MOST_GONE {
            if let Some((revision, _)) = self.gone.pop_front() {
                self.known_from = revision;
            }
        }
    }

    fn show(&self, after: u64) -> ShownWall {
        let whole = after < self.known_from || after > self.revision;
        let is_new = |revision: u64| whole || revision > after;
        ShownWall {
            revision: self.revision,
            at: millis(clock::now().wall),
            whole,
            machines: self
                .tiles
                .values()
                .filter(|(revision, _)| is_new(*revision))
                .map(|(_, tile)| tile.clone())
                .collect(),
            gone: self
                .gone
                .iter()
                .filter(|(revision, id)| !whole && *revision > after && !self.tiles.contains_key(id))
                .map(|(_, id)| id.clone())
                .collect(),
            left_out: self.left_out,
            first_window: self.first_window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(id: &str, progress: Progress) -> Tile {
        Tile {
            id: id.to_owned(),
            name: None,
            labels: BTreeMap::new(),
            macs: Vec::new(),
            state: None,
            progress,
            cause: None,
            wrong: false,
            opened: None,
            last: None,
        }
    }

    #[test]
    fn who_looks_again_gets_what_has_changed_since() {
        let ids = |shown: &ShownWall| shown.machines.iter().map(|tile| tile.id.clone()).collect::<Vec<_>>();
        let mut made = Made::default();
        made.put(vec![tile("a", Progress::Silent), tile("b", Progress::Silent)], 1_000_000);
        let first = made.show(0);
        assert!(first.whole && ids(&first) == ["a", "b"]);
        assert_eq!(made.show(first.revision).machines, []);
        made.put(vec![tile("a", Progress::Silent), tile("c", Progress::Up)], 1_000_001);
        let second = made.show(first.revision);
        assert_eq!(
            (second.whole, ids(&second), second.gone.clone()),
            (false, vec!["c".to_owned()], vec!["b".to_owned()])
        );
        made.put(vec![tile("a", Progress::Silent), tile("c", Progress::Up)], 1_000_002);
        assert_eq!(
            made.show(second.revision),
            ShownWall {
                at: made.show(second.revision).at,
                revision: second.revision,
                ..ShownWall::default()
            }
        );
        for revision in [5, second.revision + 100] {
            assert!(made.show(revision).whole, "of another daemon");
        }
    }

    #[test]
    fn those_that_left_are_forgotten_in_the_end() {
        let mut made = Made::default();
        let all = (0..=MOST_GONE).map(|id| tile(&id.to_string(), Progress::Silent)).collect();
        made.put(all, 1000);
        let before = made.show(0).revision;
        made.put(Vec::new(), 1001);
        assert_eq!(made.gone.len(), MOST_GONE);
        assert!(made.show(before).whole, "not all that left since are known");
    }
}
