-- A source's key is pinned by an import that was executed, for the domain that executed it. Until now a package that
-- was only uploaded pinned it, for all domains: who knew an environment's ID could keep its packages out.
create table pinned_sources (
    id uuid primary key,
    domain_id integer not null references domains (id) on delete cascade,
    environment_id text collate "C" not null,
    name text not null,
    kind text not null,
    public_key text not null,
    record_id uuid references records (id) on delete set null,
    pinned_at timestamptz not null default now(),
    unique (domain_id, environment_id)
);
-- What was executed left a base behind; what did not is forgotten.
insert into pinned_sources (id, domain_id, environment_id, name, kind, public_key, pinned_at)
select gen_random_uuid(), b.domain_id, s.id, s.name, s.kind, s.public_key, s.pinned_at
from source_environments s
join (select distinct domain_id, source_environment from import_bases) b on b.source_environment = s.id;
drop table source_environments;
