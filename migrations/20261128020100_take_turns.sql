-- Domains take turns: the next job is of the domain whose last one began longest ago.
alter table jobs add column started_at timestamptz;
create index jobs_turns on jobs (kind, domain_id, started_at);

-- For how many seconds the target of a migration has not answered while somebody asked it: what its own server was
-- down for is not the target's silence, so `failing_since` is not used any more.
alter table jobs add column failing_seconds double precision not null default 0;
