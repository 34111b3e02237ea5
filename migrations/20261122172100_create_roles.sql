-- Roles that a domain made for itself, beside those that are built in. A user names his role by its name, so
-- what it holds is read at each request, and a change reaches everyone who has it.
create table roles (
    domain_id integer not null references domains,
    name text collate "C" not null,
    permissions text[] not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint roles_unique_name primary key (domain_id, name)
);
