-- Views for operators and scripts: times in UTC, ISO 8601; names, no ids. They include the time up to now.
-- A removed tunnel whose name another one was given is called 'NAME (removed TIME)'.
-- Replaced whenever the daemon starts with another text of this file.

-- Now, and up to when anything is known: while the data plane does not run, up to its last sign of life.
CREATE VIEW clock AS
WITH
    wall (now) AS (SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
    last_run (alive_at) AS (SELECT coalesce(max(alive_at), 0) FROM runs)
SELECT
    now,
    -- A sign of life is at most this old while all is well.
    CASE WHEN alive_at BETWEEN now - 15000 AND now THEN now ELSE min(alive_at, now) END AS known_until,
    (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'days_rolled_until') AS days_rolled_until,
    (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'hours_rolled_until') AS hours_rolled_until
FROM wall, last_run;

-- Every outage of a link; ended_at is NULL while it lasts.
CREATE VIEW link_outages AS
SELECT
    series.tunnel,
    series.link,
    strftime('%Y-%m-%dT%H:%M:%fZ', intervals.started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', intervals.ended_at / 1000.0, 'unixepoch') AS ended_at,
    max(0, coalesce(intervals.ended_at, clock.known_until) - intervals.started_at) / 1000.0 AS seconds,
    intervals.reason
FROM intervals
JOIN series ON series.id = intervals.series_id
CROSS JOIN clock
WHERE intervals.state = 'down' AND series.link <> '';

-- Milliseconds of each state, by series and day, for days that are not summed up yet.
CREATE VIEW uptime_days_open AS
WITH RECURSIVE
    recent (series_id, state, degraded, started, ended) AS (
        SELECT series_id, state, degraded, max(started_at, days_rolled_until), known_until
        FROM clock CROSS JOIN intervals
        WHERE ended_at IS NULL
        UNION ALL
        SELECT series_id, state, degraded, max(started_at, days_rolled_until), min(ended_at, now)
        FROM clock CROSS JOIN intervals
        WHERE ended_at > days_rolled_until
        UNION ALL
        -- Of what follows, nothing is known; its days are there all the same.
        SELECT series_id, 'unknown', 0, max(known_until, started_at, days_rolled_until), now
        FROM clock CROSS JOIN intervals
        WHERE ended_at IS NULL AND known_until < now
    ),
    pieces (series_id, state, degraded, day, started, ended) AS (
        SELECT series_id, state, degraded, started - started % 86400000, started, ended
        FROM recent
        WHERE started < ended
        UNION ALL
        SELECT series_id, state, degraded, day + 86400000, day + 86400000, ended
        FROM pieces
        WHERE ended > day + 86400000
    ),
    lengths (series_id, state, degraded, day, length) AS (
        SELECT series_id, state, degraded, day, min(ended, day + 86400000) - started FROM pieces
    )
SELECT
    series_id,
    day,
    sum(iif(state = 'up', length, 0)) AS up,
    sum(iif(state = 'lossy', length, 0)) AS lossy,
    sum(iif(state = 'slow', length, 0)) AS slow,
    sum(iif(state = 'down', length, 0)) AS down,
    sum(iif(degraded, length, 0)) AS degraded
FROM lengths
GROUP BY series_id, day;

-- The same for every day, with what has elapsed of it. Days to come are those of a clock that is behind, or was ahead.
CREATE VIEW uptime_days_all AS
SELECT
    series.tunnel,
    series.link,
    days.day,
    max(min(86400000, clock.now - days.day), up + lossy + slow + down) AS elapsed,
    days.up,
    days.lossy,
    days.slow,
    days.down,
    days.degraded
FROM (
    SELECT series_id, day, up, lossy, slow, down, degraded FROM uptime_days
    UNION ALL
    SELECT series_id, day, up, lossy, slow, down, degraded FROM uptime_days_open
) AS days
JOIN series ON series.id = days.series_id
CROSS JOIN clock
WHERE days.day <= clock.now;

CREATE VIEW link_uptime_daily AS
SELECT
    strftime('%Y-%m-%d', day / 1000, 'unixepoch') AS day,
    tunnel,
    link,
    up / 1000.0 AS up_seconds,
    lossy / 1000.0 AS lossy_seconds,
    slow / 1000.0 AS slow_seconds,
    down / 1000.0 AS down_seconds,
    (elapsed - up - lossy - slow - down) / 1000.0 AS unknown_seconds,
    100.0 * (up + lossy + slow) / nullif(up + lossy + slow + down, 0) AS uptime_percent
FROM uptime_days_all
WHERE link <> '';

CREATE VIEW link_uptime_monthly AS
WITH
    months (first_day, tunnel, link, up, lossy, slow, down) AS (
        SELECT
            CAST(strftime('%s', day / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000,
            tunnel, link, sum(up), sum(lossy), sum(slow), sum(down)
        FROM uptime_days_all
        WHERE link <> ''
        GROUP BY 1, tunnel, link
    ),
    elapsed_months (first_day, tunnel, link, up, lossy, slow, down, elapsed) AS (
        SELECT
            months.*,
            max(
                min(clock.now, CAST(strftime('%s', first_day / 1000, 'unixepoch', '+1 month') AS INTEGER) * 1000) - first_day,
                up + lossy + slow + down
            )
        FROM months CROSS JOIN clock
    )
SELECT
    strftime('%Y-%m', first_day / 1000, 'unixepoch') AS month,
    tunnel,
    link,
    up / 1000.0 AS up_seconds,
    lossy / 1000.0 AS lossy_seconds,
    slow / 1000.0 AS slow_seconds,
    down / 1000.0 AS down_seconds,
    (elapsed - up - lossy - slow - down) / 1000.0 AS unknown_seconds,
    100.0 * (up + lossy + slow) / nullif(up + lossy + slow + down, 0) AS uptime_percent
FROM elapsed_months;

-- The customer's view: up while any link is.
CREATE VIEW tunnel_uptime_daily AS
SELECT
    strftime('%Y-%m-%d', day / 1000, 'unixepoch') AS day,
    tunnel,
    up / 1000.0 AS up_seconds,
    down / 1000.0 AS down_seconds,
    (elapsed - up - down) / 1000.0 AS unknown_seconds,
    100.0 * up / nullif(up + down, 0) AS uptime_percent
FROM uptime_days_all
WHERE link = '';

-- What bonding was worth: seconds in which a link was down and the customer was not.
CREATE VIEW bonding_benefit AS
SELECT strftime('%Y-%m-%d', day / 1000, 'unixepoch') AS day, tunnel, degraded / 1000.0 AS saved_seconds
FROM uptime_days_all
WHERE link = '';

CREATE VIEW link_traffic_hourly AS
SELECT
    strftime('%Y-%m-%dT%H:%M:%fZ', hours.at / 1000.0, 'unixepoch') AS hour,
    series.tunnel,
    series.link,
    hours.tx_bytes,
    hours.rx_bytes,
    hours.srtt_us / 1000.0 AS srtt_ms,
    hours.loss_permille / 10.0 AS loss_percent
FROM (
    -- After the clock was set back, hours that were summed up already are to come.
    SELECT samples_hour.at, series_id, tx_bytes, rx_bytes, srtt_us, loss_permille
    FROM clock CROSS JOIN samples_hour
    WHERE samples_hour.at < clock.hours_rolled_until
    UNION ALL
    SELECT
        samples_minute.at - samples_minute.at % 3600000 AS hour,
        series_id,
        sum(tx_bytes),
        sum(rx_bytes),
        sum(srtt_us * samples) / nullif(sum(iif(srtt_us IS NULL, 0, samples)), 0),
        sum(loss_permille * samples) / nullif(sum(iif(loss_permille IS NULL, 0, samples)), 0)
    FROM clock CROSS JOIN samples_minute
    WHERE samples_minute.at >= clock.hours_rolled_until
    GROUP BY hour, series_id
) AS hours
JOIN series ON series.id = hours.series_id;

-- The same by day: finished days are summed up, and kept for longer than hours are.
CREATE VIEW link_traffic_daily AS
SELECT
    strftime('%Y-%m-%d', days.at / 1000, 'unixepoch') AS day,
    series.tunnel,
    series.link,
    days.tx_bytes,
    days.rx_bytes,
    days.srtt_us / 1000.0 AS srtt_ms,
    days.loss_permille / 10.0 AS loss_percent
FROM (
    SELECT samples_day.at, series_id, tx_bytes, rx_bytes, srtt_us, loss_permille
    FROM clock CROSS JOIN samples_day
    WHERE samples_day.at < clock.hours_rolled_until - clock.hours_rolled_until % 86400000
    UNION ALL
    SELECT
        at - at % 86400000 AS day,
        series_id,
        sum(tx_bytes),
        sum(rx_bytes),
        sum(srtt_us * samples) / nullif(sum(iif(srtt_us IS NULL, 0, samples)), 0),
        sum(loss_permille * samples) / nullif(sum(iif(loss_permille IS NULL, 0, samples)), 0)
    FROM (
        SELECT samples_hour.at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille
        FROM clock CROSS JOIN samples_hour
        WHERE
            samples_hour.at >= clock.hours_rolled_until - clock.hours_rolled_until % 86400000
            AND samples_hour.at < clock.hours_rolled_until
        UNION ALL
        SELECT samples_minute.at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille
        FROM clock CROSS JOIN samples_minute
        WHERE samples_minute.at >= clock.hours_rolled_until
    )
    GROUP BY day, series_id
) AS days
JOIN series ON series.id = days.series_id;
