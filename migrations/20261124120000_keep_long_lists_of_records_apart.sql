-- Thousands of warnings must not weigh on whoever lists records: `records` keeps the first 100 of a list and how many
-- there are, all further ones rest here, up to 500 in a row. `first` is the place of a row's first one in the list.
alter table records add column warnings_total integer not null default 0;
alter table records add column checklist_total integer not null default 0;

create table record_notes (
    record_id uuid not null references records on delete cascade,
    list text not null check (list in ('warnings', 'checklist')),
    first integer not null,
    notes text compression lz4 not null,
    primary key (record_id, list, first)
);
