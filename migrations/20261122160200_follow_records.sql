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

-- Since when the target of a migration has not answered: it is given up after a while, over restarts too.
alter table jobs add column failing_since timestamptz;
