-- The identity by which the machine was recognised, unless it is known by its MAC: "uuid …" or "port …".
ALTER TABLE leases ADD COLUMN recognised_by TEXT;
