//! A connection to the database, with the lock that keeps other xpxe away.

use std::fmt;
use std::io;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use boot_engine::config;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::timeout;

use super::trouble::Trouble;
use crate::host::regular;
use crate::store::database::MIGRATIONS;
use crate::store::sql::{Row, Sql, Statement, Value};

/// How long the server may take for one statement.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to make the tables.
const MIGRATION: Duration = Duration::from_secs(60);
/// The advisory lock of who uses the database; locks are of one database each.
const LOCK: i64 = 0x7870_7865;
/// What a session is set to.
const SESSION: [(&str, &str); 5] = [
    // That the tables are there already is nothing for the log.
    ("client_min_messages", "warning"),
    // So that the server ends the session of a host that is gone, and with it the lock, after some 20 s.
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
];

/// Where the database is. Its text is how it is called.
#[derive(Clone, Debug)]
pub(super) struct Server(Arc<config::Postgres>);

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Server {
    /// # Errors
    /// The URL cannot be read.
    pub(super) fn new(settings: &config::Postgres) -> Result<Self, Trouble> {
        let server = Self(Arc::new(settings.clone()));
        PgConnectOptions::from_str(&settings.url).map_err(|error| Trouble::of(&server, &error))?;
        Ok(server)
    }

    /// A thread could not be started.
    pub(super) fn no_thread(&self, error: &io::Error) -> Trouble {
        Trouble::lasting(format!("no thread can be started for {self}: {error}"))
    }

    /// The password is read each time: it may have been changed.
    fn options(&self) -> Result<PgConnectOptions, Trouble> {
        let options = PgConnectOptions::from_str(&self.0.url).map_err(|error| Trouble::of(self, &error))?;
        let called = format!("xpxe on {}, process {}", host(), std::process::id());
        let options = options.application_name(&called).options(SESSION).disable_statement_logging();
        let Some(file) = &self.0.password_file else { return Ok(options) };
        let password = regular::read_private_text(file).map_err(|error| {
            Trouble::passing(format!(
                "the password of {self} cannot be read from {}: {error}; check store_password_file",
                file.display()
            ))
        })?;
        Ok(options.password(password.trim_end_matches(['\r', '\n'])))
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Needs room on the disk, where a change of a row may find some in its table. What is not logged is not replicated.
const PROOF: [&str; 3] = [
    "CREATE UNLOGGED TABLE xpxe_proof (number BIGINT)",
    "INSERT INTO xpxe_proof (number) VALUES (1)",
    "DROP TABLE xpxe_proof",
];

/// A connection. One on which anything failed is not used again.
#[derive(Debug)]
pub(super) struct Link(PgConnection);

impl Sql for Link {
    async fn run(&mut self, statement: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        timeout(PATIENCE, self.0.run(statement, values)).await.unwrap_or_else(|_| Err(late()))
    }
}

fn late() -> sqlx::Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

impl Link {
    /// Connects, takes the lock and brings the tables up to date. `session` is that of this process which had the lock last;
    /// the server may still have it, and then ends it.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) async fn open(server: &Server, session: &mut Option<i64>) -> Result<Self, Trouble> {
        let explain = |error| Trouble::of(server, &error);
        let options = server.options()?;
        let connected = timeout(PATIENCE, options.connect()).await.unwrap_or_else(|_| Err(late()));
        let mut link = Self(connected.map_err(explain)?);
        let locked = Statement::new("SELECT CAST(pg_try_advisory_lock(").value(LOCK);
        let locked = locked.then(") AS TEXT), CAST(pg_backend_pid() AS BIGINT)");
        let rows = locked.run(&mut link).await.map_err(explain)?;
        if rows.first().and_then(|row| row.first()?.text()) != Some("true") {
            let (by, called) = link.holder().await.unwrap_or_default();
            let trouble = match *session {
                Some(mine) if by == Some(mine) => {
                    link.end_session(mine).await;
                    Trouble::busy(server)
                }
                _ => Trouble::in_use(server, called),
            };
            link.close().await;
            return Err(trouble);
        }
        *session = rows.first().and_then(|row| row.get(1)?.number());
        let migrated = timeout(MIGRATION, MIGRATIONS.run(&mut link.0)).await;
        let migrated = migrated.unwrap_or_else(|_| Err(late().into()));
        migrated.map_err(|error| Trouble::of_migration(server, error))?;
        Ok(link)
    }

    /// Which session has the lock, and how it calls itself.
    async fn holder(&mut self) -> Option<(Option<i64>, Option<String>)> {
        let select = "SELECT CAST(pid AS BIGINT), application_name FROM pg_stat_activity \
                      WHERE pid IN (SELECT pid FROM pg_locks \
                      WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database \
                      WHERE datname = current_database()) AND CAST(objid AS BIGINT) = ";
        let rows = Statement::new(select).value(LOCK).then(")").run(self).await.ok()?;
        let row = rows.first()?;
        let called = row.get(1)?.text().map(str::to_owned).filter(|name| !name.is_empty());
        Some((row.first()?.number(), called))
    }

    /// Has the server end a session, when it gets to that.
    async fn end_session(&mut self, session: i64) {
        let end = Statement::new("SELECT CAST(pg_terminate_backend(CAST(").value(session);
        // Where that fails it is tried again.
        drop(end.then(" AS INTEGER)) AS TEXT)").run(self).await);
    }

    /// Writes something that leaves nothing behind.
    pub(super) async fn write_something(&mut self) -> sqlx::Result<()> {
        self.transact(async |link| {
            for statement in PROOF {
                Statement::new(statement).run(link).await?;
            }
            Ok(())
        })
        .await
    }

    /// Makes a change of several statements, or none of it.
    pub(super) async fn transact<T>(
        &mut self,
        change: impl AsyncFnOnce(&mut Self) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        Statement::new("BEGIN").run(self).await?;
        // Without a COMMIT the end of the connection takes everything back.
        let changed = change(self).await?;
        Statement::new("COMMIT").run(self).await?;
        Ok(changed)
    }

    /// Whether the server answers.
    pub(super) async fn ping(&mut self) -> sqlx::Result<()> {
        Statement::new("SELECT CAST(1 AS BIGINT)").run(self).await.map(drop)
    }

    /// Ends it, and gives the lock back.
    pub(super) async fn close(self) {
        drop(timeout(PATIENCE, self.0.close()).await);
    }
}
