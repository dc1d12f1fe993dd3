//! Where the tests of the store keep their data: in a file alone, or in a file and a PostgreSQL database.

use std::path::PathBuf;

use boot_engine::config;
use boot_fixtures::postgres::Server;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::sql::Statement;
use super::{Lease, LeaseState, Store, lock, machines};

/// One of them.
pub(super) struct Place {
    pub(super) dir: TempDir,
    pub(super) postgres: Option<config::Postgres>,
}

impl Place {
    /// A file alone.
    pub(super) fn file() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), postgres: None }
    }

    /// A file and a database; none where PostgreSQL is not installed.
    pub(super) fn database() -> Option<Self> {
        let url = Server::shared()?.new_database().unwrap();
        let postgres = config::Postgres { url, password_file: None };
        Some(Self { postgres: Some(postgres), ..Self::file() })
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("var/xpxe")
    }

    pub(super) async fn open(&self) -> Store {
        let lock = lock(&self.state_dir()).unwrap();
        let store = Store::open_alone(&self.state_dir(), lock).await.unwrap();
        store.follow(self.postgres.as_ref()).await.unwrap()
    }

    /// Opens it as a host does that has nothing of its own, where that is possible.
    pub(super) async fn open_elsewhere(&mut self) -> Store {
        if self.postgres.is_some() {
            self.dir = tempfile::tempdir().unwrap();
        }
        self.open().await
    }

    /// Changes what is stored behind the back of the store: in the database, where there is one.
    pub(super) async fn run_sql(&self, store: &Store, statement: &str) {
        let statement = Statement::new(statement);
        if let Some(postgres) = &self.postgres {
            let mut connection = PgConnection::connect(&postgres.url).await.unwrap();
            drop(statement.run(&mut connection).await.unwrap());
            return;
        }
        let run = async |connection: &mut SqliteConnection| statement.run(connection).await;
        drop(store.database.with(run).await.unwrap());
    }

    /// The leases, which are the same in the file and in the database.
    pub(super) async fn sorted(&self, store: &Store) -> Vec<Lease> {
        let sort = |mut leases: Vec<Lease>| {
            leases.sort_by_key(|lease| (lease.mac, lease.address));
            leases
        };
        // Who reads while much is being written waits, and not for ever.
        store.deliver().await.unwrap();
        let leases = sort(store.leases().await.unwrap());
        if let Some(postgres) = &self.postgres {
            let mut connection = PgConnection::connect(&postgres.url).await.unwrap();
            assert_eq!(sort(super::lease::all(&mut connection).await.unwrap()), leases, "in PostgreSQL");
        }
        leases
    }

    /// The machines, which are the same in the file and in the database.
    pub(super) async fn machines(&self, store: &Store) -> Vec<machines::Stored> {
        let found = store.machines().await.unwrap();
        if let Some(postgres) = &self.postgres {
            let mut connection = PgConnection::connect(&postgres.url).await.unwrap();
            assert_eq!(machines::all(&mut connection).await.unwrap(), found, "in PostgreSQL");
        }
        found
    }
}

/// A lease of a machine, by their last bytes.
pub(super) fn lease(machine: u8, address: u8) -> Lease {
    Lease {
        mac: boot_common::Mac([2, 0, 0, 0, 0, machine]),
        address: [10, 1, 1, address].into(),
        subnet: "10.1.0.0/16".parse().unwrap(),
        state: LeaseState::Leased,
        expires: 1_800_000_000,
        hostname: None,
        recognised_by: None,
        updated: 1_799_999_400,
    }
}

/// Runs a test with a file alone, and with a database.
pub(super) fn in_each(test: impl AsyncFn(Place)) {
    for place in [Some(Place::file()), Place::database()].into_iter().flatten() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(place));
    }
}
