-- Sessions of the page. Like a token, a session's key is 256 random bits, so a plain SHA-256 keeps it. It ends
-- when it was not used for a while (`used_at`, to the minute), and at the latest at `ends_at`.
create table sessions (
    hash bytea primary key,
    -- By which its user names it, to end it.
    id uuid not null constraint sessions_unique_id unique,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default clock_timestamp(),
    used_at timestamptz not null default clock_timestamp(),
    ends_at timestamptz not null,
    -- From where it was begun.
    address text
);
create index sessions_of_user on sessions (user_id);

-- Attempts to sign in, counted by client address and by account and address, here so that all replicas count together and
-- by one clock. The place is a hash: it has one length, and no name that somebody mistyped stands in clear.
create table sign_in_attempts (
    place bytea primary key,
    attempts integer not null,
    ends_at timestamptz not null
);
create index sign_in_attempts_by_end on sign_in_attempts (ends_at);
