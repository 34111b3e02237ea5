-- Directories that are open to a user beside what is his own: the directory and all below it. Read at each
-- request, so that taking one away works at once. A user has one grant on a directory, of one kind.
create table grants (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    directory text collate "C" not null,
    access text not null check (access in ('read', 'write')),
    created_at timestamptz not null default clock_timestamp(),
    constraint grants_unique_directory unique (user_id, directory)
);
