-- 1 = it was woken after it was claimed last: the tick that is under way must not put it to sleep.
ALTER TABLE deployments ADD COLUMN nudged INTEGER NOT NULL DEFAULT 0;
-- What the clock showed when wake_ms and lease_ms were set: if that is yet to come, the clock has gone back, and they mean nothing.
ALTER TABLE deployments ADD COLUMN set_ms INTEGER NOT NULL DEFAULT 0;
