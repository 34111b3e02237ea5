-- Selections that have a name, for exports and migrations that are made again and again: IDs or a selection.
create table selections (
    id uuid primary key,
    domain_id integer not null references domains,
    name text collate "C" not null,
    owner text collate "C" not null,
    resource_ids text[] collate "C",
    selection jsonb,
    export_upstream boolean not null,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint selections_unique_name unique (domain_id, name),
    check ((resource_ids is null) <> (selection is null))
);
-- A digest of what an export or a migration selects, and for whom, by which the next one of the same finds it, and the
-- time from which on a change may have come too late for it.
alter table records add column selected text;
alter table records add column seen_from timestamptz;
create index records_by_selected on records (domain_id, selected, id desc) where selected is not null;
