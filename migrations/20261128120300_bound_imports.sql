-- The hours in which imports may be applied here; none: always.
alter table environment add column import_windows jsonb;
-- When the next of them begins, of an import that waits for it.
alter table records add column waits_until timestamptz;
