-- Attachment bytes in the store that nothing names, and since when that has been seen. They go after a while: an export
-- that runs may still read what was replaced meanwhile.
create table unnamed_bytes (
    sha256 bytea primary key,
    since timestamptz not null default clock_timestamp()
);
