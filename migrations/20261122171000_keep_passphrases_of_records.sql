-- The passphrase of an export or an import, sealed with the secret key, until its record ends. It is read by
-- the record's own jobs alone.
alter table records add column passphrase text;
