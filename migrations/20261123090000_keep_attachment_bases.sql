-- Which bytes the last import from a source environment brought for an attachment path: others there now were put
-- there since.
create table attachment_bases (
    domain_id integer not null references domains,
    source_environment text collate "C" not null,
    path text collate "C" not null,
    sha256 bytea not null,
    primary key (domain_id, source_environment, path)
);
