-- A machine may have an address in each of several subnets.
DROP INDEX leases_of_machines;
CREATE UNIQUE INDEX leases_of_machines ON leases (mac, subnet) WHERE state <> 'resting';
