-- One row for each address, and of these one for each machine beside the addresses that rest because of it.
CREATE TABLE leases_by_address (
    address  TEXT   NOT NULL PRIMARY KEY,
    mac      TEXT   NOT NULL,
    subnet   TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    -- Seconds since the Unix epoch.
    expires  BIGINT NOT NULL,
    hostname TEXT,
    updated  BIGINT NOT NULL
);
INSERT INTO leases_by_address (address, mac, subnet, state, expires, hostname, updated)
    SELECT address, mac, subnet, state, expires, hostname, updated FROM leases;
DROP TABLE leases;
ALTER TABLE leases_by_address RENAME TO leases;
CREATE UNIQUE INDEX leases_of_machines ON leases (mac) WHERE state <> 'resting';
