-- A resource that was changed on its way in (mapped, renamed, re-rooted) cannot be read back from the
-- target's copy as its source knows it: its compact form is kept with its base, so that a later package may
-- leave its contents out.
alter table import_bases add column entry text;

-- Indexes of packages that came from an environment, by their hash: a package whose index is the same again
-- need not carry it. The bytes rest in the store.
create table known_indexes (
    domain_id integer not null references domains,
    source_environment text collate "C" not null,
    sha256 bytea not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (domain_id, source_environment, sha256)
);
