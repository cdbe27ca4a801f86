-- What the API looks things up by, beside the projection's own keys.

create index item_name_value on item_name (value) where known_to is null;
create index mention_member on mention (member);
create index pass_station_at on pass (site, station, at);
create index tag_path on tag (path);
