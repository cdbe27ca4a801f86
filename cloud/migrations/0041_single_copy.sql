-- How many frames the agent heard `logged: single copy` of, in this epoch.
alter table epoch add column single_copy int8 not null default 0;
