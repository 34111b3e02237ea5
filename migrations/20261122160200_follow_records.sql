-- Whoever follows a record hears of each change to it; notices of one transaction are one.
create function notify_records() returns trigger language plpgsql as $$
begin
    perform pg_notify('ferry_records', new.id::text);
    return null;
end $$;
create trigger records_notify after insert or update on records for each row execute function notify_records();

-- Whatever ends a record lets go of what was staged for it; an import that used its bodies has taken their rows out
-- of `runs` before.
create function drop_staged() returns trigger language plpgsql as $$
begin
    delete from definitions d using runs r
        where r.record_id = new.id and d.id >= r.block and d.id < r.block + 16777216;
    delete from runs where record_id = new.id;
    delete from import_entries where record_id = new.id;
    delete from standing_imports where record_id = new.id;
    return null;
end $$;
create trigger records_drop_staged after update of status on records
    for each row when (new.status in ('succeeded', 'partially_succeeded', 'failed', 'cancelled')) execute function drop_staged();
