-- What the board of stations is asked by: one station, one stretch of time.

create index pass_station_at on pass (site, station, at);
create index gap_station_at on gap (site, station, at);
