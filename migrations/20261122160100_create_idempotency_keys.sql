-- Answers to requests that carried an `Idempotency-Key`, kept in the transaction of what they made, so that
-- the same request again is answered with them. A row without an answer is a request that is still being
-- received; `busy_until` frees it when its server died. Answers may hold a token that was just made: sealed. They
-- belong to the credential (the hash of a token, or of a session's key): a narrower token of the same user must
-- not get the answer of a wider one.
create table idempotency_keys (
    user_id uuid not null references users on delete cascade,
    credential bytea not null,
    path text collate "C" not null,
    key text collate "C" not null,
    claim uuid not null,
    busy_until timestamptz not null,
    request_hash bytea,
    status smallint,
    location text,
    answer text,
    created_at timestamptz not null default clock_timestamp(),
    primary key (credential, path, key)
);
create index idempotency_keys_of_user on idempotency_keys (user_id);
create index idempotency_keys_by_age on idempotency_keys (created_at);
