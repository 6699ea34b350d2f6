-- What is in force or may soon be is read for every validation: without walking through the texts of old versions.
CREATE INDEX effective_versions ON versions (policy_id, number, state) WHERE state IN ('ACTIVE', 'APPROVED');
