-- Samples older than this were deleted by `keep_samples`, so the proof cannot look at them. Null: none.
alter table store add column samples_from timestamptz;
