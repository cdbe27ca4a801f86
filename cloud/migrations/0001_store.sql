-- Who writes here: the store's own identity, sites, agents and what each agent last said of itself.

create table store (
    one boolean primary key default true check (one),
    restored int4 not null default 0,          -- raised by `cloud restored` after a backup came back
    made_at timestamptz not null default now()
);
insert into store default values;

create table site (
    site_id int4 generated always as identity primary key,
    name text not null unique
);

create table agent (
    agent_id int4 generated always as identity primary key,
    site_id int4 not null references site,
    name text not null unique,                 -- site.name: certificate, client id, topic and header
    scope text[] not null,                     -- patterns over stations: L1/**
    added_at timestamptz not null default now(),
    identity text not null default 'unproven', -- as the agent's hello says: unproven or proven
    version text not null default '',
    epoch int8,                                -- of the last hello, two's complement
    hello_at timestamptz,
    set_aside_at timestamptz,                  -- not null: every frame is answered later(set_aside)
    set_aside_reason text
);

-- Every epoch that said hello, so that two of them alternating are seen.
create table epoch (
    agent_id int4 not null references agent,
    epoch int8 not null,
    first_hello_at timestamptz not null,       -- agent time
    last_hello_at timestamptz not null,
    primary key (agent_id, epoch)
);

-- The spool as the last hello stated it, per epoch and lane.
create table hello (
    agent_id int4 not null references agent,
    epoch int8 not null,
    lane int2 not null,
    stated_by int8 not null,                   -- epoch of the process that said it
    floor int8 not null,                       -- lowest seq in the spool
    head int8 not null,                        -- highest seq given
    rows int8 not null,                        -- waiting rows
    at timestamptz not null,
    received_at timestamptz not null default now(),
    primary key (agent_id, epoch, lane)
);

-- The last status of each epoch: totals since it began.
create table status (
    agent_id int4 not null references agent,
    epoch int8 not null,
    at timestamptz not null,
    read int8 not null,
    derived int8 not null,
    filtered int8 not null,
    discarded int8 not null,
    stopping boolean not null,
    groups jsonb not null,
    received_at timestamptz not null default now(),
    primary key (agent_id, epoch)
);
