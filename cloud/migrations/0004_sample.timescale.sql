-- The samples, narrow. At most one of f64, i64, text, bytes is not null; none: the device gave no
-- value. bool is i64 0 or 1, u64 is i64 in two's complement: the tag's type tells.
-- There is no unique index: a frame is admitted once by the ledger, so its rows are there once.

create table sample (
    time timestamptz not null,
    frame int8 not null,                       -- ledger.frame
    f64 float8,
    i64 int8,
    agent_time timestamptz,                    -- null: equal to time
    device_time timestamptz,                   -- null: none
    quality int8,                              -- OPC UA status code (u32); null: 0, good
    code int8,                                 -- protocol's own code (u32); null: none
    tag int4 not null,
    text text,
    bytes bytea
);
select create_hypertable('sample', by_range('time', interval '1 day'), create_default_indexes => false);
create index sample_tag_time on sample (tag, time);
alter table sample set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'tag',
    timescaledb.orderby = 'time'
);
