-- One row for each machine of the registry. Types and syntax are those that SQLite and PostgreSQL share.
CREATE TABLE machines (
    id       BIGINT NOT NULL PRIMARY KEY,
    -- How often it was changed.
    version  BIGINT NOT NULL,
    -- The number of its last change among those of all machines: who follows changes reads those behind the last one.
    revision BIGINT NOT NULL,
    name     TEXT,
    state    TEXT   NOT NULL,
    -- The whole of it, as JSON.
    record   TEXT   NOT NULL
);
CREATE INDEX machines_by_revision ON machines (revision);
