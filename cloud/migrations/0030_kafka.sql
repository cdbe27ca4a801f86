-- How far Kafka's log has been taken. Counted in the ledger's transaction, never by Kafka itself.

-- Raised when the log is no longer the one that frames were logged in; agents then send again.
create table kafka_log (
    one boolean primary key default true check (one),
    gen int4 not null default 0
);
insert into kafka_log default values;

-- Why it was raised, each time.
create table kafka_loss (
    gen int4 not null,
    at timestamptz not null default now(),
    topic text not null,
    part int4,                                 -- null: all of the topic
    why text not null,                         -- recreated, other_record, cut, expired
    detail text not null
);
create index kafka_loss_gen on kafka_loss (gen);

-- Topics by Kafka's own id. A name that comes back with another id is another log; an id never comes back.
create table kafka_topic (
    topic text not null,
    topic_id uuid,                             -- null: the server tells none
    seen_at timestamptz not null default now(),
    replaced_at timestamptz
);
create unique index kafka_topic_now on kafka_topic (topic) where replaced_at is null;

-- A running ingest and the backends it works through, so that they can be ended when it cannot.
create table ingest_owner (
    owner uuid not null,
    pid int4 not null,
    backend_start timestamptz not null,
    seen_at timestamptz not null default now(),
    primary key (owner, pid)
);

create table kafka_position (
    topic text not null,
    part int4 not null,
    next_offset int8 not null default 0,       -- of the first record not taken; 0 without stamp: from the beginning
    stamp bytea,                               -- of the record at next_offset - 1
    owner uuid,                                -- who counts here; null: nobody
    moved_at timestamptz not null default now(),
    primary key (topic, part)
) with (fillfactor = 50);                      -- rewritten with every transaction: room for it on its page
