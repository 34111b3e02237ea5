-- Whoever follows a record hears of each change to it; notices of one transaction are one.
create function notify_records() returns trigger language plpgsql as $$
begin
    perform pg_notify('ferry_records', new.id::text);
    return null;
end $$;
create trigger records_notify after insert or update on records for each row execute function notify_records();

-- What an online migration needs to go on after any interruption: the upload at the target, what was
-- confirmed, whether it is a second try.
alter table records add column transfer jsonb not null default '{}';

-- A job that waits for another environment gives its slot back and looks again at `run_at`. `failing_since`
-- says since when that environment has not answered.
alter table jobs add column tries integer not null default 0;
alter table jobs add column failing_since timestamptz;
