-- A backup brings its own counter back: only a number that no earlier moment gave tells two restores
-- of the same backup apart.
alter table store alter column restored type int8;
