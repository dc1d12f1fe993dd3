-- Why an address is on hold ("declined", "in-use", "promised"); none for other rows, and for those of earlier versions.
ALTER TABLE leases ADD COLUMN hold_cause TEXT;
