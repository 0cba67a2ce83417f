-- History: what happened. Written by mlvpn-control alone, once per second, in one transaction.
--
-- Times are milliseconds since 1970, UTC. Names are kept apart from the definitions' tables, so that history outlives them.

-- One row for each link, and one for each tunnel (link ''), that ever was. A tunnel's rename changes its rows here;
-- a row whose subject is gone is retired, and taken up again when one of that name returns.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    tunnel TEXT NOT NULL,
    link TEXT NOT NULL DEFAULT '',
    retired_at INTEGER,
    -- The engine's counters at the last sample, to continue from after a restart of control.
    counters_of INTEGER,
    tx_total INTEGER NOT NULL DEFAULT 0,
    rx_total INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX series_in_use ON series (tunnel, link) WHERE retired_at IS NULL;
CREATE INDEX series_by_name ON series (tunnel, link);

-- While the data plane ran: from its start to its last sign of life. Between two runs nothing is known.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    -- Which daemon it was, and how many of its engine's events have been read.
    instance TEXT NOT NULL,
    events_read INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    alive_at INTEGER NOT NULL CHECK (alive_at >= started_at)
) STRICT;

-- Every change of state, as it was seen.
CREATE TABLE state_changes (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL REFERENCES series (id),
    at INTEGER NOT NULL,
    previous TEXT NOT NULL CHECK (previous IN ('unknown', 'down', 'connecting', 'up', 'lossy', 'slow')),
    state TEXT NOT NULL CHECK (state IN ('unknown', 'down', 'connecting', 'up', 'lossy', 'slow')),
    reason TEXT NOT NULL DEFAULT '',
    -- Last authenticated datagram before the change; NULL: none.
    last_heard INTEGER
) STRICT;

CREATE INDEX state_changes_by_time ON state_changes (at);
CREATE INDEX state_changes_by_series ON state_changes (series_id, at);

-- What held from when to when. Intervals of a series follow each other without gap or overlap; the last one is open.
-- An interval in state down begins with the last authenticated datagram before it, not with its detection.
CREATE TABLE intervals (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL REFERENCES series (id),
    state TEXT NOT NULL CHECK (state IN ('unknown', 'down', 'up', 'lossy', 'slow')),
    -- Of a tunnel that is up: one of its links was down meanwhile.
    degraded INTEGER NOT NULL DEFAULT 0 CHECK (degraded IN (0, 1)),
    started_at INTEGER NOT NULL,
    ended_at INTEGER CHECK (ended_at >= started_at),
    reason TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE UNIQUE INDEX intervals_open ON intervals (series_id) WHERE ended_at IS NULL;
CREATE INDEX intervals_by_series ON intervals (series_id, started_at);
CREATE INDEX intervals_by_end ON intervals (ended_at);
CREATE INDEX intervals_outages ON intervals (started_at) WHERE state = 'down';

-- Finished days, summed up. Days from settings 'days_rolled_until' on are summed by the views.
CREATE TABLE uptime_days (
    series_id INTEGER NOT NULL REFERENCES series (id),
    -- The day's first millisecond.
    day INTEGER NOT NULL,
    up INTEGER NOT NULL,
    lossy INTEGER NOT NULL,
    slow INTEGER NOT NULL,
    down INTEGER NOT NULL,
    degraded INTEGER NOT NULL,
    PRIMARY KEY (series_id, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX uptime_days_by_day ON uptime_days (day);

-- Traffic of a link from `at` on. Bytes are what went over the link; averages are of the samples taken, NULL without one.
CREATE TABLE samples_minute (
    at INTEGER NOT NULL,
    series_id INTEGER NOT NULL REFERENCES series (id),
    tx_bytes INTEGER NOT NULL,
    rx_bytes INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    srtt_us INTEGER,
    loss_permille INTEGER,
    PRIMARY KEY (at, series_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples_hour (
    at INTEGER NOT NULL,
    series_id INTEGER NOT NULL REFERENCES series (id),
    tx_bytes INTEGER NOT NULL,
    rx_bytes INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    srtt_us INTEGER,
    loss_permille INTEGER,
    PRIMARY KEY (at, series_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples_day (
    at INTEGER NOT NULL,
    series_id INTEGER NOT NULL REFERENCES series (id),
    tx_bytes INTEGER NOT NULL,
    rx_bytes INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    srtt_us INTEGER,
    loss_permille INTEGER,
    PRIMARY KEY (at, series_id)
) STRICT, WITHOUT ROWID;

INSERT INTO settings (name, value) VALUES ('days_rolled_until', '0'), ('hours_rolled_until', '0');
