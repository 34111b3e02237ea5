-- Uploads in pieces (tus 1.0). The bytes of a piece rest in the store under `key`; the row of the piece and
-- the upload's new offset are committed together, so what a client was told is there is there.
create table uploads (
    id uuid primary key,
    domain_id integer not null references domains,
    user_id uuid not null references users on delete cascade,
    size bigint not null check (size >= 0),
    received bigint not null default 0 check (received between 0 and size),
    metadata text not null,
    -- The import that it became; its pieces are gone then.
    record_id uuid references records on delete set null,
    expires_at timestamptz not null
);
create index uploads_by_expiry on uploads (expires_at);

create table upload_pieces (
    upload_id uuid not null references uploads on delete cascade,
    start bigint not null,
    key text not null,
    primary key (upload_id, start)
);
