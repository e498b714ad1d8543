-- What a webhook receiver was last told of an alert, so that neither a restart nor another replica tells it again.
CREATE TABLE webhook_log (
    receiver    TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    starts_at   BIGINT NOT NULL,
    -- 1 when it was told that the alert is over.
    resolved    BIGINT NOT NULL,
    told_at     BIGINT NOT NULL,
    PRIMARY KEY (receiver, fingerprint)
);
