-- What somebody has ticked off a checklist by hand. Entries stand in their record and in `record_notes`; what ticks
-- itself off has no row.
create table checklist_ticks (
    record_id uuid not null references records on delete cascade,
    entry integer not null,
    done_by text collate "C" not null,
    done_at timestamptz not null default clock_timestamp(),
    primary key (record_id, entry)
);
-- The one list across imports begins with the newest.
create index records_with_checklist on records (domain_id, id desc) where kind = 'import' and checklist_total > 0;
