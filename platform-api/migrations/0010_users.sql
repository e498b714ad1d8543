-- Accounts, organisations, sessions.

CREATE SCHEMA users;

CREATE TABLE users.organisations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    version    integer NOT NULL DEFAULT 1,
    created_by uuid,
    updated_by uuid,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
);
CREATE INDEX organisations_created_at ON users.organisations (created_at);
CREATE TRIGGER update_updated_at BEFORE UPDATE ON users.organisations
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

CREATE TABLE users.users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    version       integer NOT NULL DEFAULT 1,
    created_by    uuid REFERENCES users.users (id),
    updated_by    uuid REFERENCES users.users (id),
    org_id        uuid NOT NULL REFERENCES users.organisations (id),
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    display_name  text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 200),
    password_hash text NOT NULL,
    roles         text[] NOT NULL,
    -- When the newest access token was given out; tells who is active.
    last_token_at timestamptz
);
CREATE INDEX users_created_at ON users.users (created_at);
CREATE UNIQUE INDEX users_email_live ON users.users (lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_last_token_at ON users.users (last_token_at) WHERE deleted_at IS NULL;
CREATE TRIGGER update_updated_at BEFORE UPDATE ON users.users
    FOR EACH ROW EXECUTE FUNCTION shared.update_updated_at();

-- One row per refresh token ever given out; a family is one sign-in. A used token that comes back
-- revokes its family.
CREATE TABLE users.refresh_tokens (
    jti        uuid PRIMARY KEY,
    family     uuid NOT NULL,
    user_id    uuid NOT NULL REFERENCES users.users (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON users.refresh_tokens (family);
CREATE INDEX refresh_tokens_expires_at ON users.refresh_tokens (expires_at);

-- Whoever registers without naming an organisation joins this one.
INSERT INTO users.organisations (id, name) VALUES ('01900000-0000-7000-8000-000000000001', 'Default organisation');
