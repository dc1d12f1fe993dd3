//! Why PostgreSQL takes nothing, as sentences that say what to do. None of them has a password.

use std::fmt;
use std::io;

use sqlx::migrate::MigrateError;

/// Why the database takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It may be over by itself, or by somebody who looks after the database.
    Passing,
    /// Another xpxe has the lock.
    Locked,
    /// The database is not for this xpxe.
    Lasting,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// Whether it may be over by itself, or by somebody who looks after the database.
    pub(in crate::store) fn may_pass(&self) -> bool {
        self.kind == Kind::Passing
    }

    /// Whether another xpxe has the lock.
    pub(super) fn is_lock(&self) -> bool {
        self.kind == Kind::Locked
    }

    /// The same at a start without a copy of the database.
    pub(super) fn without_copy(self) -> Self {
        let text =
            format!("{}; xpxe cannot start, because state_dir has no copy of that database", self.text);
        Self { text, ..self }
    }

    /// What only a person can mend.
    pub(super) fn lasting(text: String) -> Self {
        Self { text, kind: Kind::Lasting }
    }

    /// What may be over by itself.
    pub(in crate::store) fn passing(text: String) -> Self {
        Self { text, kind: Kind::Passing }
    }

    pub(super) fn of(server: &dyn fmt::Display, error: &sqlx::Error) -> Self {
        let (reason, remedy) = match error {
            sqlx::Error::Database(said) => {
                let code = said.code();
                // Its own words name another file each time, and the log would have a line of each.
                let is_full = code.as_deref() == Some(DISK_FULL);
                let reason = if is_full { "its disk is full" } else { said.message() };
                (reason.to_owned(), remedy(code.as_deref()))
            }
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                ("no answer in time".to_owned(), AWAY)
            }
            sqlx::Error::Io(error) => (error.to_string(), AWAY),
            sqlx::Error::Tls(error) => {
                (error.to_string(), "check its certificate, and sslmode and sslrootcert in store")
            }
            sqlx::Error::Configuration(error) => (error.to_string(), "check store in the configuration"),
            other => (other.to_string(), AWAY),
        };
        Self::passing(format!("{server} stores nothing ({reason}): {remedy}"))
    }

    pub(super) fn of_migration(server: &dyn fmt::Display, error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::lasting(format!(
                "{server} is from a newer xpxe (it has migration {version}): install that version, or set another store"
            )),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::of(server, &error)
            }
            other => Self::of(server, &other.into()),
        }
    }

    /// Another xpxe has the lock.
    pub(super) fn in_use(server: &dyn fmt::Display, by: Option<String>) -> Self {
        let by = by.map_or_else(String::new, |by| format!(" ({by})"));
        let text = format!("another xpxe{by} uses {server}: stop it, or set another store");
        Self { text, kind: Kind::Locked }
    }

    /// A session of this process has the lock, which this process has given up.
    pub(super) fn busy(server: &dyn fmt::Display) -> Self {
        Self::passing(format!(
            "{server} still works on what this xpxe has asked before, which it was told to end: look into pg_stat_activity and \
             pg_locks there for what holds it up"
        ))
    }

    /// The database does not have what it has confirmed, and the file has it.
    pub(super) fn older(server: &dyn fmt::Display) -> Self {
        Self::lasting(format!(
            "{server} is older than xpxe.db in state_dir, which is a copy of it: it was restored from a backup, or has lost its \
             latest changes. Make that database anew and empty to have xpxe bring there what the copy has, or move xpxe.db* away \
             to go on with the older machines and leases"
        ))
    }

    /// The database and the file have both been used, each for itself.
    pub(super) fn both(server: &dyn fmt::Display) -> Self {
        Self::lasting(format!(
            "{server} has machines and leases, and xpxe.db in state_dir has others, which are no copy of them: move xpxe.db* \
             away to use those of the database, or set another store"
        ))
    }

    /// The file is a copy of another one.
    pub(super) fn another(server: &dyn fmt::Display) -> Self {
        Self::lasting(format!(
            "{server} is not the database that xpxe.db in state_dir is a copy of: move xpxe.db* away to use this one, or set \
             the store that it was"
        ))
    }

    /// Somebody else has used it meanwhile.
    pub(super) fn changed(server: &dyn fmt::Display) -> Self {
        Self::lasting(format!(
            "another xpxe has used {server} since this one last did: restart xpxe, and it begins with what is there"
        ))
    }
}

/// The SQLSTATE of a disk without space.
const DISK_FULL: &str = "53100";
const AWAY: &str = "check whether it runs, and the network to it";

/// By SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html).
fn remedy(code: Option<&str>) -> &'static str {
    match code.unwrap_or_default() {
        "28P01" | "28000" => {
            "check the user in store and its password (store_password_file), and pg_hba.conf"
        }
        "3D000" => "create the database, or name another one in store",
        "42501" => "make the user in store the owner of the database",
        "25006" => "it is a standby: name the primary in store",
        DISK_FULL => "free some space on its disk",
        "53300" => "raise its max_connections, or end other connections",
        _ => "look into its log",
    }
}
