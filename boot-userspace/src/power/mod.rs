//! Switching machines on and off: by Redfish, IPMI, Wake-on-LAN, or a program of the operator's.
//!
//! Nothing in here decides: the life cycle and people do. Whatever a BMC does, each command ends in time, with an answer or
//! a sentence that says why there is none.

mod child;
mod command;
mod ipmi;
mod redfish;
mod turns;
mod vault;
mod wake;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot_common::Mac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::host::regular;
use crate::host::secret::Secret;
use boot_engine::config::{Bmc, BmcDriver, PowerSettings};
use boot_engine::lifecycle::Act;
use boot_engine::registry::Sealed;
use turns::Turns;
pub use vault::VaultError;
pub use wake::WakeFrom;

/// The key's file in the state directory, unless the configuration names another one.
const KEY_FILE: &str = "bmc.key";
/// Bytes of a file with a password.
const LONGEST_PASSWORD: usize = 1024;
/// Characters of what went wrong.
const LONGEST_TROUBLE: usize = 1000;
/// A BMC that did not answer is asked again after so long, and up to so much more.
const RETRY: Duration = Duration::from_secs(1);

/// From where a machine boots once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// From the network by PXE.
    Pxe,
    /// From the network by HTTP.
    Http,
    /// From its disk.
    Disk,
}

impl Boot {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pxe => "pxe",
            Self::Http => "http",
            Self::Disk => "disk",
        }
    }
}

/// Whether a machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is.
    On,
    /// It is not.
    Off,
    /// It is becoming one of these.
    Changing,
    /// What switches it does not know.
    CannotTell,
}

/// A machine with what switches it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its number in the registry; 0 for those of the configuration.
    pub record: u64,
    /// How people call it.
    pub name: String,
    /// Its cards.
    pub macs: Vec<Mac>,
    /// Its UUID.
    pub uuid: Option<[u8; 16]>,
    /// Its label `rack`.
    pub rack: String,
    /// Where its BMC is, as it is written or by its lease.
    pub address: Option<String>,
    /// What is said of its BMC, with what is said of all.
    pub bmc: Bmc,
    /// The BMC's password, encrypted.
    pub password: Option<Sealed>,
    /// From where it is woken.
    pub wake: Vec<WakeFrom>,
}

impl Target {
    fn place(&self) -> Result<&str, Trouble> {
        self.address.as_deref().ok_or_else(|| {
            Trouble::Passing(match self.bmc.mac {
                Some(mac) => format!(
                    "its BMC {mac} has no address from xpxe yet: is it connected, and does it ask for one?"
                ),
                None => {
                    "where its BMC is says nobody: write address or mac into bmc of the machine".to_owned()
                }
            })
        })
    }

    fn driver(&self) -> BmcDriver {
        self.bmc.driver.unwrap_or(BmcDriver::Redfish)
    }
}

/// Why a BMC has not done what it was told: a sentence without passwords.
#[derive(Debug)]
pub enum Trouble {
    /// It may later.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passing(why) | Self::Lasting(why)) = self;
        f.write_str(why)
    }
}

impl Trouble {
    /// The same in other words.
    fn map(self, words: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Passing(why) => Self::Passing(words(&why)),
            Self::Lasting(why) => Self::Lasting(words(&why)),
        }
    }

    /// Without the password, plain or as HTTP sends it: some BMCs, and proxies before them, repeat what they were sent.
    fn without(self, Login { user, password }: &Login) -> Self {
        let password = password.reveal();
        let sent = openssl::base64::encode_block(format!("{user}:{password}").as_bytes());
        self.map(|why| why.replace(password, "***").replace(sent.trim_end_matches('='), "***"))
    }

    /// With nothing in it that a terminal would follow: a BMC's words are in it.
    fn readable(self) -> Self {
        let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
        self.map(|why| why.chars().take(LONGEST_TROUBLE).map(|c| if is_plain(c) { c } else { '_' }).collect())
    }
}

/// Who asks a BMC.
struct Login {
    user: String,
    password: Secret,
}

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerCounts {
    /// Commands that BMCs have carried out, and those that have failed, in the order of [`Act::ALL`].
    pub commands: [(u64, u64); Act::ALL.len()],
    /// How often BMCs were asked whether their machines are on, and how often that has failed.
    pub readings: (u64, u64),
}

#[derive(Debug, Default)]
struct Counters {
    commands: [(AtomicU64, AtomicU64); Act::ALL.len()],
    readings: (AtomicU64, AtomicU64),
}

/// Who switches machines. Clones are the same.
#[derive(Clone, Debug)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state_dir: PathBuf,
    now: Mutex<Now>,
    counters: Counters,
}

/// What the configuration says now.
#[derive(Clone, Debug)]
struct Now {
    settings: Arc<PowerSettings>,
    turns: Arc<Turns>,
    readings: Arc<Semaphore>,
}

impl Switch {
    /// For a configuration. `state_dir` has the key unless that names another file.
    #[must_use]
    pub fn new(settings: &PowerSettings, state_dir: &Path) -> Self {
        let now = Mutex::new(Now::of(settings));
        Self(Arc::new(Inner { state_dir: state_dir.to_owned(), now, counters: Counters::default() }))
    }

    /// Follows another configuration. What is under way ends as it began.
    pub fn follow(&self, settings: &PowerSettings) {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now.settings != *settings {
            *now = Now::of(settings);
        }
    }

    fn now(&self) -> Now {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn key_file(&self, settings: &PowerSettings) -> PathBuf {
        settings.key_file.clone().unwrap_or_else(|| self.0.state_dir.join(KEY_FILE))
    }

    /// Encrypts the password of a machine's BMC; makes the key if there is none and `may_make`.
    ///
    /// # Errors
    /// The key cannot be used.
    pub async fn seal(&self, machine: u64, password: Secret, may_make: bool) -> Result<Sealed, VaultError> {
        let file = self.key_file(&self.now().settings);
        let sealed = spawn_blocking(move || vault::seal(&file, machine, &password, may_make)).await;
        sealed.map_err(|_| VaultError::Crypto)?
    }

    /// Asks whether a machine is on.
    ///
    /// # Errors
    /// Nobody says.
    pub async fn read(&self, target: &Target) -> Result<Reading, Trouble> {
        let now = self.now();
        // One that is dropped was never closed.
        let _turn = now.readings.acquire().await.ok();
        let mut read = self.read_once(target, &now.settings).await;
        if let Err(Trouble::Passing(_)) = read {
            sleep(jitter()).await;
            read = self.read_once(target, &now.settings).await;
        }
        let (well, badly) = &self.0.counters.readings;
        if read.is_ok() { well } else { badly }.fetch_add(1, Relaxed);
        read
    }

    /// Has a machine switched, when it is its turn.
    ///
    /// # Errors
    /// It was not done, or nobody knows.
    pub async fn act(&self, target: &Target, act: Act, boot: Option<Boot>) -> Result<(), Trouble> {
        let now = self.now();
        let _turn = now.turns.take(&target.rack, matches!(act, Act::On | Act::Cycle)).await;
        let mut acted = self.act_once(target, act, boot, &now.settings).await;
        // Off and on twice is not the same as once.
        if matches!((&acted, act), (Err(Trouble::Passing(_)), Act::On | Act::Off)) {
            sleep(jitter()).await;
            acted = self.act_once(target, act, boot, &now.settings).await;
        }
        let (well, badly) = &self.0.counters.commands[act as usize];
        if acted.is_ok() { well } else { badly }.fetch_add(1, Relaxed);
        acted
    }

    async fn read_once(&self, target: &Target, settings: &PowerSettings) -> Result<Reading, Trouble> {
        let patience = settings.timeout;
        in_time(patience, async {
            match target.driver() {
                BmcDriver::WakeOnLan => Ok(Reading::CannotTell),
                BmcDriver::Command => command::read(target, patience).await,
                BmcDriver::Ipmi => {
                    let login = self.login(target, settings).await?;
                    ipmi::read(target, &login, patience).await.map_err(|trouble| trouble.without(&login))
                }
                BmcDriver::Redfish => {
                    let login = self.login(target, settings).await?;
                    redfish::read(target, &login).await.map_err(|trouble| trouble.without(&login))
                }
            }
        })
        .await
        .map_err(Trouble::readable)
    }

    async fn act_once(
        &self,
        target: &Target,
        act: Act,
        boot: Option<Boot>,
        settings: &PowerSettings,
    ) -> Result<(), Trouble> {
        let patience = settings.timeout;
        in_time(patience, async {
            match target.driver() {
                BmcDriver::WakeOnLan if act == Act::On && boot.is_none_or(|boot| boot == Boot::Pxe) => wake::wake(target),
                BmcDriver::WakeOnLan => Err(Trouble::Lasting(
                    "Wake-on-LAN can only switch on, and chooses no boot device: do it by hand, or give the machine a BMC"
                        .to_owned(),
                )),
                BmcDriver::Command => command::act(target, act, boot, patience).await,
                BmcDriver::Ipmi => {
                    let login = self.login(target, settings).await?;
                    let acted = ipmi::act(target, &login, act, boot, patience).await;
                    acted.map_err(|trouble| trouble.without(&login))
                }
                BmcDriver::Redfish => {
                    let login = self.login(target, settings).await?;
                    let acted = redfish::act(target, &login, act, boot).await;
                    acted.map_err(|trouble| trouble.without(&login))
                }
            }
        })
        .await
        .map_err(Trouble::readable)
    }

    /// The machine's own password goes before one in a file.
    async fn login(&self, target: &Target, settings: &PowerSettings) -> Result<Login, Trouble> {
        let user = target.bmc.user.clone().ok_or_else(|| {
            Trouble::Lasting(
                "there is no user for its BMC: write user in [bmc] or in bmc of the machine".to_owned(),
            )
        })?;
        let (file, sealed, record) =
            (target.bmc.password_file.clone(), target.password.clone(), target.record);
        let key = self.key_file(settings);
        let read = move || {
            match (sealed, file) {
            (Some(sealed), _) => vault::open(&key, record, &sealed).map_err(|error| error.to_string()),
            (None, Some(file)) => password_in(&file),
            (None, None) => Err("there is no password for its BMC: set it (xpxe machines set NAME --bmc-password-file FILE), or \
                                 write password_file in [bmc]"
                .to_owned()),
        }
        };
        let password =
            spawn_blocking(read).await.map_err(|_| Trouble::Passing("xpxe is stopping".to_owned()))?;
        Ok(Login { user, password: password.map_err(Trouble::Lasting)? })
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> PowerCounts {
        let read = |(well, badly): &(AtomicU64, AtomicU64)| (well.load(Relaxed), badly.load(Relaxed));
        let Counters { commands, readings } = &self.0.counters;
        PowerCounts { commands: [0, 1, 2, 3].map(|at| read(&commands[at])), readings: read(readings) }
    }
}

impl Now {
    fn of(settings: &PowerSettings) -> Self {
        let (at_once, per_rack) = (settings.at_once as usize, settings.per_rack as usize);
        Self {
            turns: Arc::new(Turns::new(at_once, per_rack, settings.interval)),
            readings: Arc::new(Semaphore::new(at_once)),
            settings: Arc::new(settings.clone()),
        }
    }
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let late = |_| Trouble::Passing(format!("it has not answered within {patience:?} (timeout in [bmc])"));
    timeout(patience, work).await.map_err(late)?
}

/// So that those who failed together do not come back together.
fn jitter() -> Duration {
    let mut byte = [0];
    SystemRandom::new().fill(&mut byte).ok();
    RETRY + RETRY * u32::from(byte[0]) / 128
}

/// The first line of a file.
///
/// # Errors
/// No BMC can be spoken to with it, and why.
pub(crate) fn password_in(file: &Path) -> Result<Secret, String> {
    let cannot = |why: &dyn fmt::Display| format!("the password in {} cannot be used: {why}", file.display());
    let bytes = regular::read_private(file).map_err(|error| cannot(&error))?;
    if bytes.len() > LONGEST_PASSWORD {
        return Err(cannot(&"it is longer than 1024 bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| cannot(&"it is no text"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(cannot(&"its first line is empty")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_a_file_that_not_everybody_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "correct horse\nbattery\n").unwrap();
        for (mode, is_read) in [(0o644, false), (0o640, true), (0o600, true)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            match password_in(&file) {
                Ok(password) => assert!(is_read && password.reveal() == "correct horse", "{mode:o}"),
                Err(why) => assert!(!is_read && why.contains("can be read by everybody"), "{mode:o}: {why}"),
            }
        }
    }

    #[test]
    fn what_went_wrong_has_neither_the_password_nor_what_a_terminal_follows() {
        let login = Login { user: "admin".to_owned(), password: Secret::new("correct horse".to_owned()) };
        let told = "no admin:correct horse, YWRtaW46Y29ycmVjdCBob3JzZQ==, \u{202e}gnp\u{1b}[31m";
        let trouble = Trouble::Lasting(told.to_owned()).without(&login).readable();
        assert_eq!(trouble.to_string(), "no admin:***, ***==, _gnp_[31m");
    }
}
