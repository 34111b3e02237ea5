-- What a user chose for a resource of a source environment, applied again at the next import of it.
create table mappings (
    id uuid primary key,
    domain_id integer not null references domains,
    source_environment text collate "C" not null,
    source_name text not null,
    source_id text collate "C" not null,
    type text collate "C" not null,
    name text not null,
    target_id text collate "C",
    new_name text,
    record_id uuid not null,
    chosen_by text not null,
    chosen_at timestamptz not null default clock_timestamp(),
    constraint mappings_one_per_resource unique (domain_id, source_environment, source_id),
    check ((target_id is null) <> (new_name is null))
);
