-- What every domain uses: the trigger of the table convention, the outbox and its deliveries, and the
-- key with which services sign their requests to each other.
--
-- Table convention of the domains: id, created_at, updated_at, deleted_at (soft delete), version
-- (optimistic locking), created_by, updated_by. Tables of the machinery (outbox, deliveries, inboxes,
-- idempotency keys) do not follow it: their rows are facts that nobody edits.

CREATE SCHEMA shared;

-- The fixed search_path keeps a caller's own objects from standing in for now().
CREATE FUNCTION shared.update_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.updated_at = now();
    NEW.version = OLD.version + 1;
    RETURN NEW;
END;
$$;

CREATE TABLE shared.outbox (
    id          uuid PRIMARY KEY,
    type        text NOT NULL,
    -- Events of one key reach a consumer in order.
    key         uuid NOT NULL,
    org_id      uuid NOT NULL,
    payload     jsonb NOT NULL,
    -- W3C trace context of the request that caused the event.
    traceparent text,
    occurred_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_occurred_at ON shared.outbox (occurred_at);

CREATE TABLE shared.subscriptions (
    consumer   text NOT NULL,
    event_type text NOT NULL,
    PRIMARY KEY (consumer, event_type)
);

CREATE TABLE shared.deliveries (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL REFERENCES shared.outbox (id) ON DELETE CASCADE,
    consumer        text NOT NULL,
    key             uuid NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    -- Also the lease of a claimed row: a relay that dies gives it back by letting this pass.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz,
    dead_at         timestamptz,
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (consumer, event_id)
);
CREATE INDEX deliveries_due ON shared.deliveries (next_attempt_at, seq)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX deliveries_order ON shared.deliveries (consumer, key, seq)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX deliveries_event ON shared.deliveries (event_id);

CREATE TABLE shared.service_keys (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        bytea NOT NULL CHECK (octet_length(key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
-- gen_random_uuid draws from the server's strong random source; four of them are hashed into one key.
INSERT INTO shared.service_keys (key)
VALUES (sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')));
