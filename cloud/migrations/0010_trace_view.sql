-- The trace view: what the events in force come to. Every row can be made again from table `event`.
--
-- Four tables keep versions: known_from is the recorded_seq with which a row became true, known_to
-- the one with which it ceased to be (null: true now). There is one current row of a key.

create table item (
    item uuid primary key,
    kind text not null,                        -- unit, lot, container
    material text,
    revision text,
    order_no text,
    qty numeric,
    uom text,
    purpose text not null,                     -- production, master, setup, trial, dry
    expiry timestamptz,
    born_at timestamptz,                       -- null: nobody said
    ended_at timestamptz,                      -- scrapped, dismantled; null: live
    met_at timestamptz not null,               -- first mention
    stub boolean not null                      -- only met, never said to have been made or labelled
);
create index item_order on item (order_no) where order_no is not null;
create index item_material on item (material) where material is not null;

create table item_name (
    item uuid not null,
    name_key uuid not null,                    -- of (scheme, issuer, value), of any length
    scheme text not null,
    issuer text not null,
    value text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    known_from int8 not null,
    known_to int8,
    primary key (item, name_key, valid_from, known_from)
);
create unique index item_name_current on item_name (item, name_key, valid_from)
    where known_to is null;
create index item_name_key on item_name (name_key) where known_to is null;
create index item_name_value on item_name using hash (value);  -- a name may be longer than a b-tree takes
create index item_name_start on item_name (left(value, 64) text_pattern_ops) where known_to is null;

-- What each reference in an event means. `member` is the id that the mention gives its item: the
-- item's own id is the member of its first mention, and every id handed out before is one of them.
create table mention (
    event uuid not null,
    path text not null,                        -- items.0, what, to, names.1 ...
    ordinal int4 not null,
    item uuid not null,
    member uuid not null,
    certainty text not null,                   -- exact; possible: the name means several items
    primary key (event, path, item)
);
create index mention_item on mention (item);
create index mention_member on mention (member);

create table pass (
    pass_id uuid primary key,
    event uuid not null,                       -- the event that tells it now
    site text not null,
    station text not null,
    nest text not null,
    operation text not null,
    series text not null,                      -- 16 hex
    count numeric(20) not null,
    counted boolean not null,                  -- false: the agent counted, the station has no counter
    at timestamptz not null,
    started timestamptz,
    ended timestamptz,                         -- null: still open
    ended_by text,
    windows jsonb not null,                    -- [{device, from, to}]
    recipe text,
    recipe_revision text,
    purpose text not null,
    binding_rev text not null,
    about_at timestamptz,
    missing jsonb not null,
    line uuid not null,                        -- one counter: site, station, nest, series
    bucket uuid not null                       -- that counter in one shift: tally.bucket
);
create index pass_event on pass (event);
create index pass_bucket on pass (bucket);
create index pass_line on pass (line, count);
create index pass_station on pass (station, nest, started);

create table pass_item (
    pass_id uuid not null,
    slot text not null,                        -- the reference in the event: items.0, seats.tool, about
    item uuid not null,
    role text not null,                        -- work, sample, or the seat: tool, operator ...
    place text not null,
    verdict text not null,
    how text not null,                         -- bound, unnamed, stale, no_read, bad_format, conflict, reused
    certainty text not null,
    defects jsonb not null,                    -- [{code, place}]
    known_from int8 not null,
    known_to int8,
    primary key (pass_id, slot, item, known_from)
);
create unique index pass_item_current on pass_item (pass_id, slot, item) where known_to is null;
create index pass_item_item on pass_item (item) where known_to is null;

create table value (
    pass_id uuid not null,
    ordinal int4 not null,
    name text not null,
    place text not null,
    num float8,
    int_num numeric(20),
    text text,
    flag boolean,
    unit text not null,
    low float8,
    high float8,
    ok boolean,
    critical boolean not null,
    quality int8 not null,                     -- OPC UA status code
    method text not null,                      -- measured, sampled, predicted
    primary key (pass_id, ordinal)
);

-- Curves as announced; the points arrive in table `curve` under the same sha256.
create table pass_curve (
    pass_id uuid not null,
    ordinal int4 not null,
    name text not null,
    place text not null,
    axis text not null,
    units jsonb not null,
    n int4 not null,
    sha256 text not null,
    primary key (pass_id, ordinal)
);

create table link (
    link uuid not null,
    owner uuid not null,                       -- the pass or event that it follows from
    relation text not null,                    -- part, content, made_of
    child uuid,                                -- null: nobody knows what the holder held
    parent uuid,                               -- null: the holder itself (content)
    holder text,
    place text not null,
    qty numeric,
    uom text,
    from_at timestamptz not null,
    to_at timestamptz,                         -- taken out, left, replaced
    child_segment jsonb,
    parent_segment jsonb,
    certainty text not null,                   -- exact, possible, unknown
    pass_id uuid,
    event uuid,                                -- the move or make; null: an unknown content
    known_from int8 not null,
    known_to int8,
    primary key (link, known_from)
);
create unique index link_current on link (link) where known_to is null;
create index link_owner on link (owner) where known_to is null;
create index link_event on link (event) where known_to is null;
create index link_child on link (child) where known_to is null;
create index link_parent on link (parent) where known_to is null;
create index link_content on link (holder, from_at) where known_to is null and relation = 'content';

create table state (
    subject uuid not null,                     -- the item or the pass
    item uuid,
    pass_id uuid,
    state text not null,
    from_at timestamptz not null,
    to_at timestamptz,
    case_no text,
    reason text,
    defect jsonb,
    by text not null,
    certainty text not null,
    event uuid not null,
    known_from int8 not null,
    known_to int8,
    primary key (subject, state, event, known_from)
);
create unique index state_current on state (subject, state, event) where known_to is null;
create index state_state on state (state) where known_to is null and to_at is null;

create table gap (
    event uuid primary key,
    site text not null,
    station text not null,
    nest text not null,
    series text not null,
    from_count numeric(20) not null,
    to_count numeric(20) not null,
    uncovered numeric not null,                -- counts that no pass and no earlier gap has
    at timestamptz not null,
    from_at timestamptz,
    to_at timestamptz,
    reason text,
    line uuid not null,
    bucket uuid not null
);
create index gap_line on gap (line);
create index gap_bucket on gap (bucket);

-- Passes and gaps of one counter in one shift.
create table tally (
    bucket uuid primary key,
    site text not null,
    station text not null,
    nest text not null,
    series text not null,
    shift text not null,
    shift_from timestamptz not null,
    shift_to timestamptz not null,
    passes int8 not null,
    gaps numeric not null,
    first_count numeric(20) not null,
    last_count numeric(20) not null,
    counted boolean not null
);
create index tally_station on tally (station, nest, shift_from);

create table trace_alarm (
    alarm uuid primary key,
    owner uuid not null,                       -- name_key, slot or event that it is about
    name text not null,                        -- name_conflict, name_reused, ambiguous_name ...
    at timestamptz not null,
    text text not null,
    events jsonb not null
);
create index trace_alarm_owner on trace_alarm (owner);
create index trace_alarm_at on trace_alarm (at);
