//! `GET /api/v1/machines?watch`: what becomes of machines, from a revision on, until the client leaves.
//!
//! Each client asks for what is newer than what it has been sent. So who reads slowly misses nothing: of a machine that
//! changes often it gets the last state.

use std::collections::HashSet;
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::shown::Machine;
use crate::daemon::request::{
    self, Change, MachineChanges, RegistryAsk, RegistryError, RegistryHandle, WantedChanges,
};
use crate::host::clock;
use crate::http::boots::History;
use crate::http::following::{self, Follower, Form, Places, STOPPING, Teller, ended};
use boot_engine::registry::Query;

/// How many clients follow at once, how many of them over the network, and of one address.
static PLACES: Places = Places::new(32, 24, 8);
/// How many machines that do not fit a client is remembered to have heard of. Then it may hear of them again.
const MOST_OUTSIDE: usize = 100_000;

/// How many follow machines, and how many were cut off because they read nothing: they begin again from the last revision that
/// they have.
pub(in crate::http) fn counts() -> (usize, u64) {
    (PLACES.count(), PLACES.cut_off())
}

/// What has become of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = MachineChange)]
pub struct Line {
    /// `since` of who goes on behind this line. A line with nothing else: all that was there when the request came has been
    /// sent.
    pub revision: u64,
    /// The machine as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Box<Machine>>,
    /// A machine that is none of those that are asked for: any more, or ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// How far the agent is on a machine: at most once a second for each. It has the revision of what was told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Advance>,
    /// The configuration was read anew: its machines may be others, and other machines may be served. List them again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reloaded: bool,
    /// Why this is the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A machine that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = GoneMachine)]
pub struct Gone {
    /// Its number.
    pub id: u64,
    /// How it was called, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It was deleted. Else it does not fit `state` and `labels`.
    pub deleted: bool,
}

/// How far the agent is on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = MachineProgress)]
pub struct Advance {
    /// Its number.
    pub id: u64,
    /// How it is called.
    pub name: String,
    /// What the agent does, in a few words.
    pub text: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where nobody knows.
    pub of: u64,
}

/// Begins an answer with what has changed since.
pub(super) async fn begin(
    Shared { registry, history }: Shared,
    (query, since, listed): (Query, Option<u64>, Option<u64>),
    Follower { address, pass, form }: Follower,
) -> Result<Response, super::Failed> {
    let no_place = |why| super::Failed { status: StatusCode::SERVICE_UNAVAILABLE, ..super::Failed::bad(why) };
    let place = PLACES.take(address).await.map_err(no_place)?;
    let wanted = WantedChanges { query, since, ..WantedChanges::default() };
    // Whether it can be told at all is said with the status.
    let first = ask(&registry, wanted.clone()).await?;
    let (to, answer) = following::begin(form, history.connections.end(), &PLACES);
    let worker = history.worker.clone();
    worker.spawn(async move {
        let mut told = Told { listed, ..Told::new(to, form, history) };
        tokio::select! {
            _ = told.follow(&registry, wanted, first) => {}
            () = ended(pass) => {}
        }
        drop(place);
    });
    Ok(answer)
}

/// Which configuration is served now: another one after each time that it is read anew, and after each start.
pub(super) async fn epoch(registry: &RegistryHandle) -> Result<u64, RegistryError> {
    Ok(epoch_of(ask(registry, WantedChanges::default()).await?.reloads))
}

fn epoch_of(reloads: u64) -> u64 {
    static START: LazyLock<u64> =
        LazyLock::new(|| u64::try_from(clock::wall().as_micros()).unwrap_or_default());
    START.saturating_add(reloads)
}

async fn ask(registry: &RegistryHandle, wanted: WantedChanges) -> Result<MachineChanges, RegistryError> {
    registry.ask(|reply| RegistryAsk::Changes(wanted, reply)).await
}

/// The client has left, or was cut off.
struct Over;

/// What a client was told.
struct Told {
    to: Teller,
    form: Form,
    /// Knows when machines were seen.
    history: History,
    /// Which configuration was served when it listed the machines, if it has said so.
    listed: Option<u64>,
    /// All that was there when it came.
    has_caught_up: bool,
    /// The machines that it knows to be none of those that it asks for.
    outside: HashSet<u64>,
}

impl Told {
    fn new(to: Teller, form: Form, history: History) -> Self {
        Self { to, form, history, listed: None, has_caught_up: false, outside: HashSet::new() }
    }

    async fn follow(
        &mut self,
        registry: &RegistryHandle,
        mut wanted: WantedChanges,
        mut found: MachineChanges,
    ) -> Result<(), Over> {
        let (mut alive, mut end) = (PLACES.alive(), self.history.connections.end());
        let mut told = self.listed.unwrap_or_else(|| epoch_of(found.reloads));
        loop {
            let now = epoch_of(found.reloads);
            let is_reloaded = std::mem::replace(&mut told, now) != now;
            wanted.waits = (!found.is_cut).then_some(found.reloads);
            wanted.since = Some(found.revision);
            wanted.progress = Some(found.progress);
            self.tell(found, is_reloaded).await?;
            let asked = ask(registry, wanted.clone());
            tokio::pin!(asked);
            found = loop {
                tokio::select! {
                    answer = &mut asked => match answer {
                        Ok(found) => break found,
                        Err(error) => return self.end(&wanted, error.to_string()).await,
                    },
                    () = end.comes() => return self.end(&wanted, STOPPING.to_owned()).await,
                    // Who has left is noticed, though nothing happens to any machine.
                    () = alive.tick() => self.send("\n").await?,
                }
            };
        }
    }

    async fn tell(&mut self, found: MachineChanges, is_reloaded: bool) -> Result<(), Over> {
        for Change { revision, id, machine, is_deleted, called } in &found.changes {
            let revision = *revision;
            if let Some(view) = machine {
                self.outside.remove(id);
                let machine =
                    Machine::listed(std::slice::from_ref(view), &self.history, false).pop().map(Box::new);
                self.write(&Line { revision, machine, ..Line::default() }).await?;
                continue;
            }
            if self.outside.len() >= MOST_OUTSIDE {
                self.outside.clear();
            }
            if self.outside.insert(*id) || *is_deleted {
                let gone = Some(Gone { id: *id, name: called.clone(), deleted: *is_deleted });
                self.write(&Line { revision, gone, ..Line::default() }).await?;
            }
        }
        let revision = found.revision;
        for request::Advance { id, called, progress } in found.advances {
            let boot_agent_protocol::Progress { text, done, of } = progress;
            let progress = Some(Advance { id, name: called, text, done, of });
            self.write(&Line { revision, progress, ..Line::default() }).await?;
        }
        if is_reloaded {
            self.write(&Line { revision, reloaded: true, ..Line::default() }).await?;
        }
        if !found.is_cut && !std::mem::replace(&mut self.has_caught_up, true) {
            self.write(&Line { revision, ..Line::default() }).await?;
        }
        Ok(())
    }

    /// Writes the last line, which says why it is the last one.
    async fn end(&mut self, wanted: &WantedChanges, why: String) -> Result<(), Over> {
        let revision = wanted.since.unwrap_or(0);
        self.write(&Line { revision, error: Some(why), ..Line::default() }).await
    }

    async fn write(&mut self, line: &Line) -> Result<(), Over> {
        let text = serde_json::to_string(line).map_err(|_| Over)?;
        self.send(&self.form.write(&text)).await
    }

    async fn send(&mut self, text: &str) -> Result<(), Over> {
        self.to.send(text).await.map_err(|_| Over)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn gone(revision: u64, id: u64, is_deleted: bool) -> Change {
        Change { revision, id, machine: None, is_deleted, called: None }
    }

    /// What a client reads that is told this, and then that xpxe stops.
    async fn read(answers: Vec<MachineChanges>) -> Vec<Line> {
        let (registry, mut asks) = RegistryHandle::new();
        let mut answers = answers.into_iter();
        let first = answers.next().unwrap();
        let answering = tokio::spawn(async move {
            for answer in answers {
                let Some(RegistryAsk::Changes(_, reply)) = asks.recv().await else {
                    panic!("another question")
                };
                reply.send(Ok(answer)).unwrap();
            }
        });
        let (to, mut from) = Teller::with_room(1 << 20, SOON, &PLACES);
        let mut told = Told::new(to, Form::Lines, History::empty());
        told.follow(&registry, WantedChanges::default(), first).await.ok().unwrap();
        answering.await.unwrap();
        drop(told);
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_machine_outside_is_told_once_and_its_end_and_a_reload_always() {
        let first = MachineChanges {
            changes: vec![gone(3, 1, false)],
            revision: 3,
            is_cut: true,
            ..MachineChanges::default()
        };
        let second = MachineChanges {
            changes: vec![gone(4, 1, false), gone(5, 2, true)],
            revision: 5,
            ..MachineChanges::default()
        };
        let third = MachineChanges {
            changes: vec![gone(6, 1, true)],
            revision: 6,
            reloads: 1,
            ..MachineChanges::default()
        };
        let lines = read(vec![first, second, third]).await;
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                (line.revision, line.gone.as_ref().map(|gone| (gone.id, gone.deleted)), line.reloaded)
            })
            .collect();
        assert_eq!(
            told,
            [
                (3, Some((1, false)), false),
                (5, Some((2, true)), false),
                (5, None, false),
                (6, Some((1, true)), false),
                (6, None, true),
                (6, None, false),
            ]
        );
        let last = lines.last().and_then(|line| line.error.clone());
        assert!(last.is_some_and(|error| error.contains("stopping")), "{lines:?}");
    }

    #[tokio::test]
    async fn how_far_an_agent_is_comes_with_the_revision_that_was_told_before() {
        let first = MachineChanges { revision: 3, ..MachineChanges::default() };
        let progress = boot_agent_protocol::Progress { text: "wiping sda".to_owned(), done: 1, of: 4 };
        let advances = vec![request::Advance { id: 7, called: "node7".to_owned(), progress }];
        let second = MachineChanges { revision: 3, advances, progress: 9, ..MachineChanges::default() };
        let lines = read(vec![first, second]).await;
        let [caught_up, told, _end] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(*caught_up, Line { revision: 3, ..Line::default() });
        let name = "node7".to_owned();
        let progress = Advance { id: 7, name, text: "wiping sda".to_owned(), done: 1, of: 4 };
        assert_eq!(*told, Line { revision: 3, progress: Some(progress), ..Line::default() });
    }

    #[tokio::test]
    async fn who_has_listed_machines_of_another_configuration_is_told_so_at_once() {
        for (listed, is_told) in [(epoch_of(3), false), (epoch_of(2), true), (1, true)] {
            let (registry, asks) = RegistryHandle::new();
            drop(asks);
            let (to, mut from) = Teller::with_room(1 << 20, SOON, &PLACES);
            let mut told = Told { listed: Some(listed), ..Told::new(to, Form::Lines, History::empty()) };
            let found = MachineChanges { reloads: 3, ..MachineChanges::default() };
            told.follow(&registry, WantedChanges::default(), found).await.ok().unwrap();
            drop(told);
            let mut text = String::new();
            from.read_to_string(&mut text).await.unwrap();
            assert_eq!(text.contains("reloaded"), is_told, "{text}");
        }
    }

    #[tokio::test]
    async fn who_reads_nothing_is_cut_off_and_counted() {
        let (registry, _asks) = RegistryHandle::new();
        let changes = (1..=100).map(|id| gone(id, id, true)).collect();
        let found = MachineChanges { changes, revision: 100, ..MachineChanges::default() };
        let (to, mut unread) = Teller::with_room(64, Duration::from_millis(20), &PLACES);
        let (_, before) = counts();
        let mut told = Told::new(to, Form::Lines, History::empty());
        let follows = told.follow(&registry, WantedChanges::default(), found);
        assert!(timeout(SOON, follows).await.expect("it ends").is_err());
        assert_eq!(counts().1, before + 1);
        drop(told);
        let mut half = Vec::new();
        assert!(unread.read_to_end(&mut half).await.is_err(), "half a line is no whole answer");
        assert_eq!(half.len(), 64);
    }
}
