-- One row for each machine that has, had or was offered an address.
-- Types and syntax are those that SQLite and PostgreSQL share.
CREATE TABLE leases (
    mac      TEXT   NOT NULL PRIMARY KEY,
    address  TEXT   NOT NULL UNIQUE,
    subnet   TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    -- Seconds since the Unix epoch.
    expires  BIGINT NOT NULL,
    hostname TEXT,
    updated  BIGINT NOT NULL
);
