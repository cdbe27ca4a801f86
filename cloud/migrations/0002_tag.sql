-- Tag versions (site, path, type) and what was declared of them since when.

create table tag (
    tag int4 generated always as identity primary key,
    site_id int4 not null references site,
    path text not null,
    type text not null,                        -- type code of wire 1: float64, bool, text[] …
    made_at timestamptz not null default now(),
    unique (site_id, path, type)
);

-- A declaration; a version without any is a stub. The one in force at t is the last with since <= t.
create table tag_line (
    tag int4 not null references tag,
    since timestamptz not null,
    agent_id int4 not null references agent,
    unit text not null,
    scale float8 not null,
    "offset" float8 not null,
    address text not null,
    station text not null,                     -- line/station, '' for none
    nest text not null,
    report jsonb,
    was text,                                  -- path before a rename
    frame int8 not null,
    primary key (tag, since, agent_id)
);
create index tag_line_station on tag_line using hash (station); -- a station may be longer than a btree takes

-- Which agents sent a tag version, and when first and last (agent time): overlaps are path_shared.
create table tag_user (
    tag int4 not null references tag,
    agent_id int4 not null references agent,
    first_at timestamptz not null,
    last_at timestamptz not null,
    primary key (tag, agent_id)
);
