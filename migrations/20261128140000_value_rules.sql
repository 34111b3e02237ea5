-- How values of definitions are changed on their way from a source environment, in the order of their positions.
create table value_rules (
    id uuid primary key,
    domain_id integer not null references domains,
    source_environment text collate "C" not null,
    position integer not null,
    name text not null,
    type text collate "C" not null,
    path text not null,
    action jsonb not null,
    revision integer not null default 1,
    changed_by text not null,
    changed_at timestamptz not null default clock_timestamp()
);
create index value_rules_by_source on value_rules (domain_id, source_environment, position, id);
