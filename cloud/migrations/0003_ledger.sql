-- What was admitted: one row a frame, never two. The reason why samples need no unique index.

-- Ledger ids are taken in blocks: nextval() = n reserves n to n + 999.
create sequence frame_block increment by 1000;

-- The row that a transaction locks FOR SHARE before it admits; compaction takes it FOR UPDATE.
create table lane (
    lane_id int8 generated always as identity primary key,
    agent_id int4 not null references agent,
    epoch int8 not null,                       -- u64 as two's complement, as every u64 here
    lane int2 not null,                        -- 1 events, 2 live, 3 backlog, 4 control
    unique (agent_id, epoch, lane)
);

create table ledger (
    frame int8 primary key,
    lane_id int8 not null references lane,
    site_id int4 not null references site,
    seq int8 not null,
    digest int8 not null,
    kind int2 not null,
    rows int8 not null,
    rows_before int8 not null,
    sealed_at timestamptz not null,
    t_min timestamptz not null,                -- agent times, as the header says
    t_max timestamptz not null,
    time_min timestamptz,                      -- event times of the stored samples, null without any
    time_max timestamptz,
    floor int8 not null,
    watermark timestamptz,                     -- null: no promise
    read int8,                                 -- totals since the epoch began; null: not stated
    derived int8,
    filtered int8,
    discarded int8,
    received_at timestamptz not null default now(),
    unique (lane_id, seq)
);
create index ledger_lane_sealed on ledger (lane_id, sealed_at);

-- Seqs that compaction moved out of `ledger`: gapless, below the agent's floor, never deleted.
create table ledger_range (
    lane_id int8 not null references lane,
    seq_from int8 not null,
    seq_to int8 not null check (seq_to >= seq_from),
    rows int8 not null,
    rows_before int8 not null,                 -- of its first seq
    sealed_from timestamptz not null,
    sealed_to timestamptz not null,
    compacted_at timestamptz not null default now(),
    primary key (lane_id, seq_from)
);

-- Outages, releases and drops that agents declared.
create table stretch (
    frame int8 not null,
    line int4 not null,                        -- position in its frame
    kind text not null check (kind in ('outage', 'release', 'drop')),
    agent_id int4 not null references agent,
    epoch int8 not null,
    lane int2 not null,                        -- 0: no lane
    from_time timestamptz not null,
    to_time timestamptz not null,
    from_seq int8,
    to_seq int8,
    reason text not null,
    rows int8 not null,
    primary key (frame, line)
);
create index stretch_agent on stretch (agent_id, from_time);

-- What could not be taken, whole. A repeat adds to `seen`.
create table dead_letter (
    dead_letter_id int8 generated always as identity primary key,
    agent text not null,                       -- of the topic, known or not
    reason text not null,                      -- rejected, forked, compacted, id_conflict, unreadable
    detail text not null,
    epoch int8,                                -- null where the header was unreadable
    lane int2,
    seq int8,
    digest int8,
    kind int2,
    rows int8,
    sealed_at timestamptz,
    sha256 bytea not null,
    data bytea not null,                       -- the message as it came
    seen int8 not null default 1,
    first_at timestamptz not null default now(),
    last_at timestamptz not null default now(),
    unique (agent, reason, sha256)
);
create index dead_letter_seq on dead_letter (agent, epoch, lane, seq);
