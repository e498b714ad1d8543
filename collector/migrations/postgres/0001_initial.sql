-- What must survive a replaced task, shared by all replicas. Times are milliseconds since the epoch, label sets
-- are JSON objects. The same tables as in SQLite, so that every statement is the same for both.

-- Alerts that are pending, firing or recently resolved; one row per alert of a rule.
CREATE TABLE alerts (
    rule_key          TEXT   NOT NULL,
    fingerprint       TEXT   NOT NULL,
    rule_group        TEXT   NOT NULL,
    state             TEXT   NOT NULL CHECK (state IN ('pending', 'firing', 'inactive')),
    labels            TEXT   NOT NULL,
    annotations       TEXT   NOT NULL,
    -- As text, as in SQLite, which has no NaN.
    value             TEXT   NOT NULL,
    active_at         BIGINT NOT NULL,
    fired_at          BIGINT,
    keep_firing_since BIGINT,
    resolved_at       BIGINT,
    last_sent_at      BIGINT,
    PRIMARY KEY (rule_key, fingerprint)
);
CREATE INDEX alerts_by_group ON alerts (rule_group);

-- When a rule group was last evaluated: the distance to the next evaluation is the time we were away.
CREATE TABLE rule_groups (
    rule_group   TEXT   NOT NULL PRIMARY KEY,
    evaluated_at BIGINT NOT NULL
);

-- What the sidecars said when an alert fired, so that every replica sends the same annotations.
CREATE TABLE evidence (
    fingerprint TEXT   NOT NULL PRIMARY KEY,
    fired_at    BIGINT NOT NULL,
    annotations TEXT   NOT NULL,
    gathered_at BIGINT NOT NULL
);

-- What was last written to AWS under a name, to tell our own change from a stranger's.
CREATE TABLE published (
    kind         TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    hash         TEXT   NOT NULL,
    body         TEXT   NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Every scaling decision that did, or was kept from doing, something.
CREATE TABLE scaling_history (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    resource   TEXT   NOT NULL,
    schedule   TEXT   NOT NULL,
    outcome    TEXT   NOT NULL,
    min_before BIGINT,
    max_before BIGINT,
    min_after  BIGINT,
    max_after  BIGINT,
    reason     TEXT   NOT NULL
);
CREATE INDEX scaling_history_by_resource ON scaling_history (resource, id);
