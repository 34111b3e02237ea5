-- What an import replaced besides versions of resources, so that it can be rolled back. Before-images outlive packages.
create table undo_bases (
    record_id uuid not null,
    source_id text collate "C" not null,
    target_id text collate "C" not null,
    source_hash bytea not null,
    result_hash bytea not null,
    remapping text not null,
    entry text,
    type_digest bytea,
    base_record uuid not null,
    primary key (record_id, source_id, target_id)
);
create table undo_tombstones (
    record_id uuid not null,
    resource_id text collate "C" not null,
    type text collate "C" not null,
    revision bigint not null,
    children jsonb not null,
    deleted_at timestamptz not null,
    deleted_by text not null,
    primary key (record_id, resource_id)
);
create table undo_child_tombstones (
    record_id uuid not null,
    resource_id text collate "C" not null,
    key text collate "C" not null,
    child_id text collate "C" not null,
    deleted_at timestamptz not null,
    primary key (record_id, resource_id, key, child_id)
);
-- `sha256`, `size`: what was there, if anything; `new_sha256`: what the import put there.
create table undo_attachments (
    record_id uuid not null,
    path text collate "C" not null,
    sha256 bytea,
    size bigint,
    new_sha256 bytea not null,
    primary key (record_id, path)
);
create index undo_attachments_by_hash on undo_attachments (sha256);
create table undo_attachment_bases (
    record_id uuid not null,
    path text collate "C" not null,
    sha256 bytea,
    primary key (record_id, path)
);
-- The last revisions of IDs that a roll back took away without a tombstone: they count on.
create table last_revisions (
    domain_id integer not null references domains,
    resource_id text collate "C" not null,
    revision bigint not null,
    primary key (domain_id, resource_id)
);
alter table records add column rolled_back_by text;
