-- A dead letter is open until it is stored after all, or somebody drops it. Then only its bytes go:
-- the proof must be able to say for ever that it was rejected.

alter table dead_letter
    add column channel text,                   -- the topic's; null: from before
    add column settled text check (settled in ('stored', 'dropped')),
    add column settled_at timestamptz;
create index dead_letter_open on dead_letter (last_at) where settled is null;
