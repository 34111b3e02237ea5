-- A resource that was changed on its way in (mapped, renamed, re-rooted) cannot be read back from the
-- target's copy as its source knows it: its compact form is kept with its base, so that a later package may
-- leave its contents out.
alter table import_bases add column entry text;
