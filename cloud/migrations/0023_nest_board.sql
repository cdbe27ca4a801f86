-- What the board is asked by: one nest, one stretch of time; a nest's newest pass is its index's end.

create index pass_nest_at on pass (site, station, nest, at) include (purpose, pass_id);
drop index pass_station_at;
create index gap_nest_at on gap (site, station, nest, at);
drop index gap_station_at;
