-- Keys have a table of their own; the index goes with its column.
alter table records drop column idempotency_key;
