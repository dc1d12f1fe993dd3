-- Which database this is, one row. SQLite's file has it only while it is the copy of a database elsewhere.
CREATE TABLE origin (
    id     TEXT   NOT NULL PRIMARY KEY,
    -- How often an xpxe has begun to use it.
    starts BIGINT NOT NULL
);
-- In a copy: the addresses whose leases the other database does not have as they are here.
CREATE TABLE unsent (
    address TEXT   NOT NULL PRIMARY KEY,
    -- Greater than that of every earlier change.
    number  BIGINT NOT NULL
);
