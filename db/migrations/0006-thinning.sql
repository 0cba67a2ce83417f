-- From when on every interval is there; of the time before, only outages are. What is older than it is not summed up again.
INSERT INTO settings (name, value) VALUES ('intervals_whole_from', '0');
