-- Tokens of the API. The secret is shown once and never kept; its hash is.

create table token (
    token_id int4 generated always as identity primary key,
    name text not null,                        -- who holds it; one working token a name
    hash bytea not null unique,                -- SHA-256 of the secret
    scopes text[] not null,                    -- read, write
    sites text[],                              -- null: every site
    made_at timestamptz not null default now(),
    expires_at timestamptz,                    -- null: never
    revoked_at timestamptz
);
create index token_name on token (name);
