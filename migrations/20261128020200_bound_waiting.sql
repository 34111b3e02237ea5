-- Since when a record waits for its plan to be confirmed: not for ever, as its package waits with it.
alter table records add column waiting_since timestamptz;
update records set waiting_since = clock_timestamp() where status = 'awaiting_confirmation';
