-- Who alone may do what only one may do: a row per lease, its epoch grows with every change of holder.
CREATE TABLE leases (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL
);

-- When an alert began and stopped to fire: what the noise report reads.
CREATE TABLE alert_history (
    rule_group  TEXT   NOT NULL,
    alert       TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    fired_at    BIGINT NOT NULL,
    resolved_at BIGINT,
    labels      TEXT   NOT NULL,
    PRIMARY KEY (fingerprint, fired_at)
);
CREATE INDEX alert_history_by_time ON alert_history (fired_at);
