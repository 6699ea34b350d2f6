CREATE TABLE deployments (
    id TEXT NOT NULL PRIMARY KEY,
    policy_id TEXT NOT NULL,
    -- Cluster, group, kind, namespace and name of the object.
    target_key TEXT NOT NULL,
    -- 1 until it has ended.
    active INTEGER NOT NULL,
    -- When to look again.
    wake_ms INTEGER NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX deployments_one_active_per_target ON deployments (target_key) WHERE active = 1;
CREATE INDEX deployments_due ON deployments (wake_ms) WHERE active = 1;
CREATE INDEX deployments_by_policy ON deployments (policy_id, id);

CREATE TABLE deployment_events (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    sequence INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (deployment_id, sequence)
) STRICT;
