CREATE INDEX deployments_changed ON deployments (set_ms);
