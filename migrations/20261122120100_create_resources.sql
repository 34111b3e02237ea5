-- The catalogue. `resources` holds live resources only, each as one compact row that points at its body; an ID is
-- unique in the whole environment. `name_scope` is the directory, the empty string (unique in the domain) or null
-- (names may repeat); the constraint is deferred because resources may swap names inside one import. `parts_hash`
-- is that of references, children and attachment paths: an update leaves those that are alike alone.
create table resources (
    id text collate "C" primary key,
    -- A domain is never removed: to look it up for each row would take longer than to write the row.
    domain_id integer not null,
    type text collate "C" not null,
    name text collate "C" not null,
    directory text collate "C" not null,
    name_scope text collate "C",
    owner text not null,
    revision bigint not null,
    definition_id bigint not null,
    definition_hash bytea not null,
    content_hash bytea not null,
    parts_hash bytea not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    updated_by text not null,
    imported_record uuid,
    imported_from text,
    imported_at timestamptz,
    constraint resources_unique_name unique (domain_id, type, name_scope, name) deferrable initially deferred
);
create index resources_by_update on resources (domain_id, updated_at);

-- Bodies: canonical JSON text, the bytes that are hashed; content alone. Append-only: written once, before anything
-- points at them. IDs come in blocks, one for each run that writes some, so that they are known before COPY.
create table definitions (
    id bigint primary key,
    body text compression lz4 not null
);
-- No sample of a body among the statistics, where nothing would clear it away with the body.
alter table definitions alter column body set statistics 0;
create sequence definition_blocks increment by 16777216;

-- Blocks that a record's runs have staged bodies in. A row stands until the run that uses them commits, or the
-- record ends without: then its whole block goes.
create table runs (
    block bigint primary key,
    record_id uuid not null,
    created_at timestamptz not null default clock_timestamp()
);
create index runs_by_record on runs (record_id);

-- One row per revision, the current one too: all that a roll back puts back. `overlay` holds what belongs to this
-- environment alone, as [location, value] pairs: sealed secrets, environment-specific values. `children` holds what
-- the type file calls children, as [key, id] pairs, `attachments` [path, SHA-256] pairs.
create table resource_versions (
    domain_id integer not null,
    resource_id text collate "C" not null,
    revision bigint not null,
    type text collate "C" not null,
    name text collate "C" not null,
    directory text collate "C" not null,
    owner text not null,
    definition_id bigint not null,
    definition_hash bytea not null,
    content_hash bytea not null,
    children jsonb not null,
    attachments jsonb not null,
    overlay text,
    updated_at timestamptz not null,
    updated_by text not null,
    record_id uuid,
    -- With it the resource came to be, or came back.
    created boolean not null,
    -- It undoes what its record did.
    undone boolean not null default false,
    imported_record uuid,
    imported_from text,
    imported_at timestamptz,
    -- An ID deleted in one domain may begin again in another.
    primary key (domain_id, resource_id, revision)
);
create index resource_versions_by_record on resource_versions (record_id) where record_id is not null;

-- The edges of live resources, kept in step by the transaction that writes a version. `to_id` may name what is not
-- there; `to_type`, `to_name` stand in its place where a text names the resource.
create table resource_references (
    from_id text collate "C" not null,
    ordinal integer not null,
    domain_id integer not null,
    rule smallint not null,
    kind text collate "C" not null,
    acyclic boolean not null,
    to_id text collate "C",
    to_type text collate "C",
    to_name text collate "C",
    primary key (from_id, ordinal)
);
create index resource_references_to on resource_references (to_id);
create index resource_references_by_name on resource_references (domain_id, to_type, to_name) where to_id is null;

-- Attachment bytes rest in the store under their hash; a path belongs to a domain.
create table attachments (
    domain_id integer not null references domains,
    path text collate "C" not null,
    sha256 bytea not null,
    size bigint not null,
    updated_at timestamptz not null default now(),
    primary key (domain_id, path)
);
create index attachments_by_hash on attachments (sha256);

create table resource_attachments (
    resource_id text collate "C" not null,
    path text collate "C" not null,
    domain_id integer not null,
    primary key (resource_id, path)
);
create index resource_attachments_by_path on resource_attachments (domain_id, path);

-- Attachment bytes that a record's runs have put into the store, until the record ends.
create table staged_bytes (
    record_id uuid not null,
    sha256 bytea not null,
    size bigint not null,
    primary key (record_id, sha256)
);
create index staged_bytes_by_hash on staged_bytes (sha256);

-- What was deleted here. `children` are those of the deleted resource, as [key, id] pairs: one that a
-- later PUT of the same ID does not bring back leaves a tombstone of its own.
create table tombstones (
    domain_id integer not null references domains,
    resource_id text collate "C" not null,
    type text collate "C" not null,
    revision bigint not null,
    children jsonb not null,
    deleted_at timestamptz not null default now(),
    deleted_by text not null,
    primary key (domain_id, resource_id)
);
create table child_tombstones (
    domain_id integer not null references domains,
    resource_id text collate "C" not null,
    key text collate "C" not null,
    child_id text collate "C" not null,
    deleted_at timestamptz not null default now(),
    primary key (domain_id, resource_id, key, child_id)
);

-- What the last import of a resource left behind: the content that came, the content that was written,
-- and how it was changed on the way. It tells unchanged from changed, and drift. `entry` is its compact form as it
-- came, where references were rewritten: the target's own body cannot tell it then; `type_digest` is that of the
-- type file which the entry was read with.
create table import_bases (
    domain_id integer not null,
    source_environment text collate "C" not null,
    source_id text collate "C" not null,
    target_id text collate "C" not null,
    source_hash bytea not null,
    result_hash bytea not null,
    remapping text not null,
    entry text,
    type_digest bytea,
    record_id uuid not null,
    primary key (domain_id, source_id, target_id, source_environment)
);

-- Which bytes the last import from a source environment brought for an attachment path: others there now were put
-- there since.
create table attachment_bases (
    domain_id integer not null references domains,
    source_environment text collate "C" not null,
    path text collate "C" not null,
    sha256 bytea not null,
    primary key (domain_id, source_environment, path)
);

-- What the last executed thin import of a source listed, in pages that are named by their content, so that a
-- package names them instead of listing the same again. The pages of an import that is not executed yet are beside it.
create table index_pages (
    domain_id integer not null references domains,
    source_environment text not null,
    name bytea not null,
    lines text compression lz4 not null,
    -- The last import that listed it.
    record_id uuid not null,
    primary key (domain_id, source_environment, name)
);
