-- The API looks tags up by path over all sites.

create index tag_path on tag (path);
