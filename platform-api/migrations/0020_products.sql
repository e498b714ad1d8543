-- Products, stock, and the holds that orders have on it.

CREATE SCHEMA products;

CREATE TABLE products.products (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    version     integer NOT NULL DEFAULT 1,
    created_by  uuid REFERENCES users.users (id),
    updated_by  uuid REFERENCES users.users (id),
    org_id      uuid NOT NULL REFERENCES users.organisations (id),
    sku         text NOT NULL CHECK (length(sku) BETWEEN 1 AND 64),
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description text NOT NULL DEFAULT '',
    price_minor bigint NOT NULL CHECK (price_minor > 0),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX products_created_at ON products.products (org_id, created_at, id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX products_sku_live ON products.products (org_id, lower(sku)) WHERE deleted_at IS NULL;
CREATE TRIGGER update_updated_at BEFORE UPDATE ON products.products
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE products.inventory (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    version    integer NOT NULL DEFAULT 1,
    created_by uuid REFERENCES users.users (id),
    updated_by uuid REFERENCES users.users (id),
    product_id uuid NOT NULL UNIQUE REFERENCES products.products (id),
    on_hand    integer NOT NULL CHECK (on_hand >= 0),
    reserved   integer NOT NULL DEFAULT 0,
    -- The last word against overselling, whatever the code above it does.
    CONSTRAINT inventory_never_oversold CHECK (reserved BETWEEN 0 AND on_hand)
);
CREATE INDEX inventory_created_at ON products.inventory (created_at);
CREATE TRIGGER update_updated_at BEFORE UPDATE ON products.inventory
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE products.reservations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    version    integer NOT NULL DEFAULT 1,
    created_by uuid REFERENCES users.users (id),
    updated_by uuid REFERENCES users.users (id),
    org_id     uuid NOT NULL REFERENCES users.organisations (id),
    -- One hold per order: asking again for the same order gives the same answer.
    order_id   uuid NOT NULL UNIQUE,
    state      text NOT NULL CHECK (state IN ('held', 'committed', 'released', 'expired')),
    expires_at timestamptz NOT NULL
);
CREATE INDEX reservations_created_at ON products.reservations (created_at);
CREATE INDEX reservations_expiry ON products.reservations (expires_at) WHERE state = 'held';
CREATE TRIGGER update_updated_at BEFORE UPDATE ON products.reservations
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE products.reservation_lines (
    reservation_id   uuid NOT NULL REFERENCES products.reservations (id),
    product_id       uuid NOT NULL REFERENCES products.products (id),
    quantity         integer NOT NULL CHECK (quantity > 0),
    -- The price at the moment of the hold; the order is charged by it.
    unit_price_minor bigint NOT NULL,
    currency         text NOT NULL,
    name             text NOT NULL,
    PRIMARY KEY (reservation_id, product_id)
);
