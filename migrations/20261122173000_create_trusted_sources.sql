-- Environments whose packages are accepted where `security.trust` is `trusted`, by the key that they sign with.
create table trusted_sources (
    id uuid primary key,
    name text collate "C" not null constraint trusted_sources_unique_name unique,
    public_key text not null constraint trusted_sources_unique_key unique,
    created_at timestamptz not null default now()
);
