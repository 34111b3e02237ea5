-- Answers to requests that carried an `Idempotency-Key`, kept in the transaction of what they made, so that
-- the same request again is answered with them. A row without an answer is a request that is still being
-- received; `busy_until` frees it when its server died. Answers may hold a token that was just made: sealed.
create table idempotency_keys (
    user_id uuid not null references users on delete cascade,
    path text collate "C" not null,
    key text collate "C" not null,
    claim uuid not null,
    busy_until timestamptz not null,
    request_hash bytea,
    status smallint,
    location text,
    answer text,
    created_at timestamptz not null default clock_timestamp(),
    primary key (user_id, path, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
