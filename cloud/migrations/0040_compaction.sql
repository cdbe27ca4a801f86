-- A frame's id is its place: lane_id * 2^36 + seq. So a range of seqs is a range of ids, and rows of
-- a compacted frame still tell where they came from. Ids below 2^36 are from before: their frames
-- are never compacted.

alter table lane add constraint lane_id_fits check (lane_id < 134217728);  -- 2^27
alter table ledger drop constraint ledger_pkey;
alter table ledger add primary key (lane_id, seq);
alter table ledger drop constraint ledger_lane_id_seq_key;
create index ledger_numbered on ledger (frame) where frame < 68719476736;
drop sequence frame_block;

-- What admission must know for ever: which seqs were taken. One row a gapless run of seqs.
alter table ledger_range
    drop column rows,
    drop column rows_before,
    drop column sealed_from,
    drop column sealed_to;

-- What the proof must know for ever: the same seqs, summed by the hour in which they were sealed.
create table ledger_hour (
    lane_id int8 not null references lane,
    seq_from int8 not null,
    seq_to int8 not null check (seq_to >= seq_from),
    hour timestamptz not null,                 -- of sealed_at
    sealed_to timestamptz not null,
    rows int8 not null,                        -- of all kinds, as `ledger.rows`
    rows_before int8 not null,                 -- of seq_from
    samples int8 not null,                     -- rows of kind 1
    weighed numeric not null,                  -- the same, each frame's times its weight
    time_min timestamptz,                      -- event times of these samples, null without any
    time_max timestamptz,
    t_min timestamptz not null,                -- agent time
    until timestamptz not null,                -- of seq_to: its watermark, or t_max without one
    floor int8 not null,                       -- of seq_to
    read int8,                                 -- totals since the epoch began; null: not stated
    derived int8,
    filtered int8,
    discarded int8,
    primary key (lane_id, seq_from)
);
create index ledger_hour_lane_hour on ledger_hour (lane_id, hour);
