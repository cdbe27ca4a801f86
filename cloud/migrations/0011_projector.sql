-- What the projector remembers beside the view, to find what a new event can affect.

create table projection (
    one boolean primary key default true check (one),
    position int8 not null default 0,          -- recorded_seq up to which the view is worked off
    masters text not null default '',          -- fingerprint of the masters that the view was made with
    at timestamptz not null default now()
);
insert into projection default values;

-- Events that a bug kept out of the view. A rebuild tries them again.
create table projection_skipped (
    recorded_seq int8 primary key,
    event uuid not null,
    error text not null,
    at timestamptz not null default now()
);

create table projected (
    event uuid primary key,
    recorded_seq int8 not null,
    kind text not null,
    pass_id uuid,
    closed boolean not null,
    said_us int8 not null,
    replaces jsonb not null,
    in_force boolean not null
);
create index projected_pass on projected (pass_id) where pass_id is not null;

create table replaced (
    replaced uuid not null,
    event uuid not null,                       -- the event that replaces it
    primary key (replaced, event)
);

-- Statements of identity, under every name and slot that they speak of.
create table statement (
    key uuid not null,
    event uuid not null,
    ordinal int4 not null,
    body jsonb not null,
    primary key (key, event, ordinal)
);
create index statement_event on statement (event);

-- Uses of holders in order of time, and what the holder held after those that changed it.
create table holder_op (
    holder text not null,
    at_us int8 not null,
    rank int4 not null,
    event uuid not null,
    ordinal int4 not null,
    "do" text not null,                        -- put, take, feed, read
    path text not null,
    body jsonb not null,
    taken jsonb not null,
    state jsonb,                               -- null: as before
    left_us int8,
    primary key (event, ordinal, holder)
);
-- A holder's name may be longer than a b-tree takes, so it stands in the order by its hash.
create index holder_op_order on holder_op (md5(holder), at_us, rank, event, ordinal);
create index holder_op_state on holder_op (md5(holder), at_us, rank, event, ordinal)
    where state is not null;

create table joint (
    pair uuid not null,
    event uuid not null,
    path text not null,                        -- to: ties; from: unties
    child uuid not null,
    parent uuid not null,
    certainty text not null,
    primary key (pair, event, path)
);
create index joint_event on joint (event);

create table said (
    subject uuid not null,
    event uuid not null,
    certainty text not null,
    is_pass boolean not null,
    primary key (subject, event)
);
create index said_event on said (event);

-- Attempts are told by order, and balances by what the counters did between shifts.

create view attempt as
select p.pass_id, i.item, i.place, p.site, p.station, p.nest, p.operation, i.verdict, p.started, p.ended,
       row_number() over (
           partition by i.item, p.operation order by coalesce(p.started, p.at), p.line, p.count
       ) as attempt
from pass_item i
join pass p using (pass_id)
where i.known_to is null and i.role = 'work';

-- counted: what the counter did since the last shift that it worked in; the first shift of a series
-- counts from its own first count.
create view balance as
select site, station, nest, shift, shift_from, shift_to,
       sum(last_count - coalesce(before, first_count - 1)) as counted,
       sum(passes) as passes,
       sum(gaps) as gaps,
       bool_and(counted) as proven
from (
    select tally.*,
           lag(last_count) over (partition by site, station, nest, series order by shift_from) as before
    from tally
) as ordered
group by site, station, nest, shift, shift_from, shift_to;
