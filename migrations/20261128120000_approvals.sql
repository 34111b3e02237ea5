-- An import that waits for a second person, and what he decided; in the record of a migration what its target says.
alter table records add column approval jsonb;
-- Who asked for it where it comes from: he does not approve it either.
alter table records add column source_requested_by text;
-- Whether imports wait for a second person here.
alter table environment add column approval_required boolean not null default false;
