-- Orders, their lines, the attempts to be paid, and the keys under which clients repeat a request.

CREATE SCHEMA orders;

CREATE TABLE orders.orders (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    version          integer NOT NULL DEFAULT 1,
    created_by       uuid REFERENCES users.users (id),
    updated_by       uuid REFERENCES users.users (id),
    org_id           uuid NOT NULL REFERENCES users.organisations (id),
    user_id          uuid NOT NULL REFERENCES users.users (id),
    state            text NOT NULL CHECK (state IN ('reserved', 'payment_failed', 'paid', 'shipped', 'cancelled', 'expired')),
    failed_payments  integer NOT NULL DEFAULT 0,
    currency         text NOT NULL,
    -- Money is integers of the currency's minor unit.
    total_minor      bigint NOT NULL CHECK (total_minor > 0),
    reserved_until   timestamptz NOT NULL
);
CREATE INDEX orders_created_at ON orders.orders (org_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX orders_user ON orders.orders (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX orders_unpaid ON orders.orders (reserved_until) WHERE state IN ('reserved', 'payment_failed');
CREATE TRIGGER update_updated_at BEFORE UPDATE ON orders.orders
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE orders.order_lines (
    order_id         uuid NOT NULL REFERENCES orders.orders (id),
    line             integer NOT NULL,
    -- No foreign key: products live in another domain, and the line must outlive the product.
    product_id       uuid NOT NULL,
    name             text NOT NULL,
    quantity         integer NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint NOT NULL CHECK (unit_price_minor > 0),
    PRIMARY KEY (order_id, line)
);

CREATE TABLE orders.payment_attempts (
    -- The provider's idempotency key: asking it again about the same attempt never charges twice.
    id           uuid PRIMARY KEY,
    order_id     uuid NOT NULL REFERENCES orders.orders (id),
    attempt      integer NOT NULL,
    state        text NOT NULL CHECK (state IN ('started', 'captured', 'declined', 'voided')),
    provider_ref text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, attempt)
);
-- Two payments of one order at the same time cannot both begin.
CREATE UNIQUE INDEX payment_attempts_one_open ON orders.payment_attempts (order_id) WHERE state = 'started';

CREATE TABLE orders.idempotency_keys (
    user_id      uuid NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    -- Chosen before anything happens, so that a repeated attempt speaks of the same order.
    order_id     uuid NOT NULL,
    finished     boolean NOT NULL DEFAULT false,
    locked_until timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_created_at ON orders.idempotency_keys (created_at);
