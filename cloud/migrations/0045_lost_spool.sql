-- Up to when the agent's data was known to be here, of an epoch whose spool began without the one
-- before it, unsent rows and all. Null: a first start, or a spool with its past.
alter table epoch add column lost_after timestamptz;
