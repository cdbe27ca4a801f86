-- Whole arrays and curves: read on demand, few and long, never in the hypertable.

create table sample_list (
    time timestamptz not null,
    frame int8 not null,
    tag int4 not null,
    f64s float8[],
    i64s int8[],                               -- u64 in two's complement
    bools boolean[],
    texts text[],
    agent_time timestamptz,
    device_time timestamptz,
    quality int8,
    code int8
);
create index sample_list_tag_time on sample_list (tag, time);

create table curve (
    pass_id uuid not null,
    name text not null,
    place text not null,
    sha256 text not null,                      -- of the column data, hex, as the pass names it
    site_id int4 not null references site,
    axis text not null,
    columns text[] not null,                   -- the first is the axis
    units text[] not null,
    n int4 not null,                           -- points
    data bytea not null,                       -- float64, little-endian, column after column
    frame int8 not null,
    primary key (pass_id, name, place, sha256)
);
create index curve_sha256 on curve (sha256);
