-- Trace events, append-only, and alarms.

create sequence event_seq;

-- recorded_seq is drawn under one lock held to the commit: whoever sees n sees everything below n.
create table event (
    recorded_seq int8 primary key,
    id uuid not null unique,
    kind text not null,
    site text not null,
    at timestamptz not null,
    said_at timestamptz,
    recorded_at timestamptz not null default clock_timestamp(),
    by text not null,
    replaces uuid[] not null,
    body jsonb not null,                       -- the whole event, envelope included
    hash text not null,                        -- SHA-256 of its RFC 8785 form without seen, said_at
    agent_id int4 references agent,            -- null: said through the API or loaded
    epoch int8,
    lane int2,
    seq int8,
    frame int8
);
create index event_kind_at on event (kind, at);
create index event_frame on event (frame) where frame is not null;

create table alarm (
    id uuid primary key,
    key text not null,                         -- names the condition
    state text not null,                       -- raised or cleared
    severity text not null,
    at timestamptz not null,
    text text not null,
    source text not null,
    site_id int4 references site,              -- null: not of one site
    agent_id int4 references agent,            -- null: raised here
    frame int8,
    recorded_at timestamptz not null default now()
);
create index alarm_key on alarm using hash (key); -- a key may be longer than a btree takes
create index alarm_at on alarm (at);
