-- The times at which a statement of identity may matter, so that of a name that is spoken of again
-- and again (a transfer label) only the stretch in question is read. Statements from before this
-- migration may matter at any time.

alter table statement
    add column from_us int8 not null default -4611686018427387904,
    add column to_us int8 not null default 4611686018427387904;
create index statement_time on statement (key, from_us);
create index statement_wide on statement (key, to_us) where to_us > from_us;
