-- One row per export, import or online migration.
create table records (
    id uuid primary key,
    domain_id integer not null references domains,
    kind text not null,
    status text not null,
    phase text,
    name text not null,
    requested_by text not null,
    options jsonb not null default '{}',
    -- The selected resources of an export or a migration: too many to be shown with each record.
    roots jsonb not null default '[]',
    progress_done bigint not null default 0,
    progress_total bigint not null default 0,
    progress_unit text not null default 'resources',
    counts jsonb not null default '{}',
    error jsonb,
    -- The first 100 of each list, and how many there are; all further ones rest in `record_notes`.
    warnings jsonb not null default '[]',
    warnings_total integer not null default 0,
    checklist jsonb not null default '[]',
    checklist_total integer not null default 0,
    package jsonb,
    package_key text,
    -- It may hold in clear what is secret here: it goes with the record's end.
    package_until_end boolean not null default false,
    -- Who signed the package of an import, and whether that key was known here when it arrived.
    signature jsonb,
    -- That of an export or an import, sealed with the secret key, until the record ends; read by its own jobs alone.
    passphrase text,
    manifest jsonb,
    plan_digest text,
    target_id uuid,
    target_name text,
    source_environment text,
    remote_record_id uuid,
    -- What a record needs to go on after any interruption: the upload at the target, what was confirmed, whether it
    -- is a second try.
    transfer jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz
);
create index records_by_domain on records (domain_id, created_at desc, id);

-- Items in chunks: one row for up to 500 of them, as a JSON array. A package of a million resources
-- costs 2,000 rows, and a page of items reads one or two. The arrays say what a filter may find inside.
create table record_items (
    record_id uuid not null references records on delete cascade,
    first integer not null,
    methods text[] not null,
    statuses text[] not null,
    types text[] not null,
    items text compression lz4 not null,
    -- What became of all that are pending in `items`, where they ended at once: whether their changes were written.
    applied boolean,
    -- Of a migration that ended: all of `items` are in the target as they were sent, below this directory.
    as_sent_below text,
    primary key (record_id, first)
);

-- Thousands of warnings must not weigh on whoever lists records: what of a list does not stand in the record, up to
-- 500 in a row. `first` is the place of a row's first one in the list.
create table record_notes (
    record_id uuid not null references records on delete cascade,
    list text not null check (list in ('warnings', 'checklist')),
    first integer not null,
    notes text compression lz4 not null,
    primary key (record_id, list, first)
);

-- An import of which all stood as it came when it was planned, with the IDs and content hashes that it lists. Its
-- entries leave out what their bodies tell. Gone when the record ends.
create table standing_imports (
    record_id uuid primary key references records on delete cascade,
    plan_digest text not null,
    ids text[] compression lz4 not null,
    hashes bytea[] not null
);

-- What a plan needs of each resource of a package, computed when it is parsed; gone when the record ends.
create table import_entries (
    record_id uuid not null references records on delete cascade,
    first integer not null,
    entries text compression lz4 not null,
    primary key (record_id, first)
);

-- One row per piece of work, queued in the transaction that makes it necessary. Every write of a worker
-- is fenced by `run_no`; a run whose lease is over may be taken by another worker, which first ends the
-- database backend that the lost one left behind.
create table jobs (
    id bigint generated always as identity primary key,
    kind text not null,
    record_id uuid not null references records on delete cascade,
    domain_id integer not null references domains,
    state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed')),
    run_no integer not null default 0,
    max_runs integer not null default 10,
    run_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz,
    -- Since when the target of a migration has not answered: it is given up after a while, over restarts too.
    failing_since timestamptz,
    backend_pid integer,
    backend_start timestamptz,
    created_at timestamptz not null default clock_timestamp()
);
create index jobs_open on jobs (kind, run_at) where state in ('queued', 'running');
-- Imports of a domain run one at a time.
create unique index jobs_one_import_per_domain on jobs (domain_id) where state = 'running' and kind = 'execute';

create function notify_jobs() returns trigger language plpgsql as $$
begin
    perform pg_notify('ferry_jobs', new.kind);
    return null;
end $$;
-- By row, and not when one is claimed: a look at an empty queue must wake nobody. An import that ends lets the next
-- one of its domain begin.
create trigger jobs_notify_new after insert on jobs for each row execute function notify_jobs();
create trigger jobs_notify_end after update of state on jobs
    for each row when (old.state = 'running' and new.state <> 'running' and (new.kind = 'execute' or new.state = 'queued'))
    execute function notify_jobs();

-- Environments that this domain may migrate to; the token is sealed and never read back.
create table targets (
    id uuid primary key,
    domain_id integer not null references domains,
    name text collate "C" not null,
    url text not null,
    token text not null,
    owner text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint targets_unique_name unique (domain_id, name)
);
