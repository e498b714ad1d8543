-- What users are told inside the application.

CREATE SCHEMA notifications;

CREATE TABLE notifications.notifications (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    version    integer NOT NULL DEFAULT 1,
    created_by uuid REFERENCES users.users (id),
    updated_by uuid REFERENCES users.users (id),
    org_id     uuid NOT NULL REFERENCES users.organisations (id),
    user_id    uuid NOT NULL REFERENCES users.users (id),
    kind       text NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    read_at    timestamptz
);
CREATE INDEX notifications_user ON notifications.notifications (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE TRIGGER update_updated_at BEFORE UPDATE ON notifications.notifications
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE notifications.inbox (
    event_id    uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_received_at ON notifications.inbox (received_at);

INSERT INTO shared.subscriptions (consumer, event_type) VALUES
    ('notification', 'user.registered.v1'),
    ('notification', 'order.created.v1'),
    ('notification', 'order.paid.v1'),
    ('notification', 'order.payment_failed.v1'),
    ('notification', 'order.shipped.v1'),
    ('notification', 'order.expired.v1');
