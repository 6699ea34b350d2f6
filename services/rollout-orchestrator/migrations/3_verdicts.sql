CREATE TABLE verdicts (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    sequence INTEGER NOT NULL,
    analysis_id TEXT NOT NULL,
    step INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    -- The judge's one sentence.
    explanation TEXT NOT NULL,
    -- Everything that led to it, as the metrics-collector writes it.
    told BLOB NOT NULL,
    PRIMARY KEY (deployment_id, sequence)
) STRICT;
CREATE INDEX verdicts_by_age ON verdicts (time_ms);
