CREATE TABLE policies (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    cluster TEXT NOT NULL,
    api_version TEXT NOT NULL,
    kind TEXT NOT NULL,
    object_name TEXT NOT NULL,
    -- One object is governed by one policy, whatever API version it is written in.
    target_key TEXT NOT NULL UNIQUE,
    latest_version INTEGER NOT NULL,
    active_version INTEGER NOT NULL,
    -- Compare-and-set on this one column guards the policy and all its versions.
    revision INTEGER NOT NULL,
    creator TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

CREATE TABLE versions (
    policy_id TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    yaml TEXT NOT NULL,
    canonical_json TEXT NOT NULL,
    state TEXT NOT NULL,
    author TEXT NOT NULL,
    change_note TEXT NOT NULL,
    -- JSON
    findings TEXT NOT NULL,
    state_reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (policy_id, number)
) STRICT;

CREATE UNIQUE INDEX one_active_version ON versions (policy_id) WHERE state = 'ACTIVE';

CREATE TABLE approvals (
    policy_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    approver TEXT NOT NULL,
    comment TEXT NOT NULL,
    digest TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (policy_id, version, approver),
    FOREIGN KEY (policy_id, version) REFERENCES versions (policy_id, number) ON DELETE CASCADE
) STRICT;

CREATE TABLE deployment_records (
    deployment_id TEXT PRIMARY KEY,
    policy_id TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

-- No reference to policies: the trail outlives them.
CREATE TABLE audit_events (
    sequence INTEGER PRIMARY KEY,
    policy_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    version INTEGER NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    digest TEXT NOT NULL,
    comment TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    hash TEXT NOT NULL
) STRICT;

CREATE INDEX audit_events_by_policy ON audit_events (policy_id, sequence);

-- A slip in a later program shall not rewrite history; who means to can, and is found by the hash chain.
CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_events_remain BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
