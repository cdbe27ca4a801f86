-- Masters, each record valid from a time on until the next of the same key (or until valid_to).

create table material (
    material text not null,
    revision text not null default '',
    valid_from timestamptz not null,
    valid_to timestamptz,
    description text not null default '',
    uom text not null default '',
    kind text not null default 'unit',         -- unit, lot
    primary key (material, revision, valid_from)
);

create table bom (
    material text not null,
    revision text not null default '',
    child text not null,                       -- material of the component
    valid_from timestamptz not null,
    valid_to timestamptz,
    qty numeric not null,
    uom text not null default '',
    primary key (material, revision, child, valid_from)
);

create table route (
    material text not null,
    operation text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    position int4 not null,                    -- order of operations
    optional boolean not null default false,
    primary key (material, operation, valid_from)
);

create table characteristic (
    name text not null,
    operation text not null default '',        -- '': of every operation
    valid_from timestamptz not null,
    valid_to timestamptz,
    aliases text[] not null default '{}',
    unit text not null default '',
    low float8,
    high float8,
    critical boolean not null default false,
    primary key (name, operation, valid_from)
);

-- Tags of a station's nest; offset_ms: of the samples' time base against the station's.
create table station_tag (
    site text not null,
    station text not null,
    nest text not null default '',             -- '': of every nest
    tag text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    offset_ms int8 not null default 0,
    primary key (site, station, nest, tag, valid_from)
);

-- A holder, or with a `holder` without a slash a whole kind of holders.
create table holder (
    holder text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    discipline text not null default 'single' check (discipline in ('single', 'fifo')),
    places int4,
    station text not null default '',
    primary key (holder, valid_from)
);

create table calendar (
    site text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    zone text not null,                        -- IANA
    shifts jsonb not null,                     -- [{name, start}], start as HH:MM local time
    primary key (site, valid_from)
);
