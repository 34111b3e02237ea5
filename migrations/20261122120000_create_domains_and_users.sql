-- Who is here: one environment, its domains, their users and tokens.
-- A single row says which environment this database is; `key_check` tells a server with another
-- secret key that it must not start. Seeds are sealed with that key.
create table environment (
    singleton boolean primary key default true check (singleton),
    id text not null,
    key_check text not null,
    signing_seed text not null,
    sealing_seed text not null,
    public_key text not null,
    sealing_key text not null,
    type_digests jsonb not null default '{}',
    -- Of all of them: who writes into the catalogue must have the same files.
    types_digest text not null default '',
    -- Those of before: a server that still has such files does not take the environment back beside one that runs.
    superseded_types text[] not null default '{}'
);

create table domains (
    id integer generated always as identity primary key,
    name text collate "C" not null constraint domains_unique_name unique,
    created_at timestamptz not null default now()
);
insert into domains (name) values ('default');

create table users (
    id uuid primary key,
    domain_id integer not null references domains,
    username text collate "C" not null,
    password_hash text,
    -- Of the configured password that was applied last: it is applied again when it is another one, and not whenever
    -- the user has changed his.
    configured_password_hash text,
    role text not null,
    created_at timestamptz not null default now(),
    constraint users_unique_name unique (domain_id, username)
);

-- A token is 256 random bits, so a plain SHA-256 keeps it; it is looked up by that hash.
create table tokens (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    hash bytea not null constraint tokens_unique_hash unique,
    -- Given by the configuration; gone when it is no longer given.
    configured boolean not null default false,
    permissions text[],
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz
);
create index tokens_of_user on tokens (user_id);

-- A type without a row has its feature on and no limit.
create table features (
    type text primary key,
    enabled boolean not null
);
create table license_limits (
    type text primary key,
    max_count bigint not null check (max_count >= 0)
);

-- The first import from an environment pins its key.
create table source_environments (
    id text primary key,
    name text not null,
    kind text not null,
    public_key text not null,
    pinned_at timestamptz not null default now()
);
