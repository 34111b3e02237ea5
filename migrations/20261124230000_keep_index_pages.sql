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
