-- Roll-ups of what happened, by hour.

CREATE SCHEMA analytics;

CREATE TABLE analytics.sales_hourly (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz,
    version        integer NOT NULL DEFAULT 1,
    created_by     uuid REFERENCES users.users (id),
    updated_by     uuid REFERENCES users.users (id),
    org_id         uuid NOT NULL REFERENCES users.organisations (id),
    bucket         timestamptz NOT NULL,
    currency       text NOT NULL,
    orders_created bigint NOT NULL DEFAULT 0,
    orders_paid    bigint NOT NULL DEFAULT 0,
    orders_shipped bigint NOT NULL DEFAULT 0,
    units_sold     bigint NOT NULL DEFAULT 0,
    revenue_minor  bigint NOT NULL DEFAULT 0,
    UNIQUE (org_id, bucket, currency)
);
CREATE TRIGGER update_updated_at BEFORE UPDATE ON analytics.sales_hourly
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

-- An event that stands here has had its effect; its row is written in the effect's transaction.
CREATE TABLE analytics.inbox (
    event_id    uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_received_at ON analytics.inbox (received_at);

INSERT INTO shared.subscriptions (consumer, event_type) VALUES
    ('analytics', 'order.created.v1'),
    ('analytics', 'order.paid.v1'),
    ('analytics', 'order.shipped.v1');
