-- Who did what to what, when and from where. Rows are added and never touched again. They reference nothing:
-- a row outlives what it is about. Without a domain it is the environment's own.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    domain_id integer,
    username text collate "C",
    -- The name of the token, `session`, or who else acted in the user's name: `worker`, `server`.
    token text collate "C",
    action text collate "C" not null,
    object_kind text collate "C" not null,
    object_id text collate "C" not null,
    details jsonb not null default '{}',
    address text
);
create index audit_by_domain on audit (domain_id, id desc);
create index audit_by_object on audit (object_id, id desc);

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is append-only: % is refused', tg_op using errcode = 'insufficient_privilege';
end $$;
create trigger audit_is_append_only before update or delete or truncate on audit
    for each statement execute function refuse_audit_change();
-- Also where triggers are turned off for a session.
alter table audit enable always trigger audit_is_append_only;

-- One row per change of a record's state, whoever makes it, in his transaction. A handler says who he is before
-- he changes a record (settings of the transaction); who says nothing is a worker.
create function audit_record_status() returns trigger language plpgsql as $$
declare
    actor text := nullif(current_setting('ferry.username', true), '');
    details jsonb := jsonb_build_object('kind', new.kind, 'to', new.status, 'requested_by', new.requested_by);
begin
    if tg_op = 'UPDATE' then
        details := details || jsonb_build_object('from', old.status);
    end if;
    if new.error ->> 'code' is not null then
        details := details || jsonb_build_object('code', new.error ->> 'code');
    end if;
    insert into audit (domain_id, username, token, action, object_kind, object_id, details, address)
    values (new.domain_id, coalesce(actor, new.requested_by),
        case when actor is null then 'worker' else nullif(current_setting('ferry.token', true), '') end,
        'record.status', 'record', new.id::text, details, nullif(current_setting('ferry.address', true), ''));
    return null;
end $$;
create trigger records_audit_new after insert on records for each row execute function audit_record_status();
create trigger records_audit_change after update of status on records
    for each row when (old.status is distinct from new.status) execute function audit_record_status();
