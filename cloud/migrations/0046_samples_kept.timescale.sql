-- Samples older than this were deleted by `keep_samples`, so the proof cannot look at them. Null: none.
-- Of the policy that is set now, its job tells.
alter table store add column samples_from timestamptz;

-- Only a hypertable can be kept for a time by a policy. Arrays are long, and stored compressed anyway.
select create_hypertable('sample_list', by_range('time', interval '1 day'),
    create_default_indexes => false, migrate_data => true);
