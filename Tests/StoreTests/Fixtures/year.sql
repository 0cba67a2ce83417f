-- A year of 100 customers with two lines each, up to now: outages, and the traffic that is kept of it.
--
-- Chance is a hash of what is asked about, so that every run has the same year. Known facts for the queries to find:
-- customer042's lte is away four hours a day in the last 60 days, customer007's adsl twelve times a day in the last ten,
-- customer013's both lines have been away since ten minutes ago, customer077's lte is slow, and all customers carry
-- ten times as much as usual from 20 to 21 o'clock three days ago, customer059 twenty times.

CREATE TEMP TABLE year AS
SELECT
    now,
    now - now % 86400000 AS today,
    now - now % 86400000 - 365 * 86400000 AS start
FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 AS now);

INSERT INTO runs (instance, events_read, started_at, alive_at) SELECT 'year', 0, start, now + 3600000 FROM year;

INSERT INTO series (id, tunnel, link)
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100)
SELECT n * 3 + k, printf('customer%03d', n), CASE k WHEN 0 THEN '' WHEN 1 THEN 'adsl' ELSE 'lte' END
FROM n CROSS JOIN (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2);

CREATE TEMP TABLE days AS
WITH RECURSIVE d (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM d WHERE d < 364)
SELECT d, start + d * 86400000 AS day FROM d CROSS JOIN year;

-- At most one outage a day of most lines, never over midnight.
CREATE TEMP TABLE outages (series_id INTEGER, tunnel TEXT, started INTEGER, ended INTEGER, reason TEXT);
INSERT INTO outages
WITH chance (id, tunnel, link, d, day, h) AS (
    SELECT id, tunnel, link, d, day, ((id * 7919 + d * 104729) % 1000003) * ((id * 104723 + d * 7907) % 1000033) % 2147483647
    FROM series CROSS JOIN days
    WHERE link <> ''
)
SELECT
    id, tunnel, day + (h % 72000) * 1000, day + (h % 72000) * 1000 + (10 + (h / 97) % 1800) * 1000,
    CASE (h / 7) % 3 WHEN 0 THEN 'timeout' WHEN 1 THEN 'disconnected' ELSE 'silent' END
FROM chance
WHERE (h / 1000) % 100 < 30
    AND NOT (tunnel = 'customer042' AND link = 'lte' AND d >= 305)
    AND NOT (tunnel = 'customer007' AND link = 'adsl' AND d >= 355);
INSERT INTO outages
SELECT id, tunnel, day + 3600000, day + 5 * 3600000, 'timeout'
FROM series CROSS JOIN days
WHERE tunnel = 'customer042' AND link = 'lte' AND d >= 305;
INSERT INTO outages
WITH RECURSIVE k (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM k WHERE k < 11)
SELECT id, tunnel, day + k * 7200000, day + k * 7200000 + 20000, 'timeout'
FROM series CROSS JOIN days CROSS JOIN k
WHERE tunnel = 'customer007' AND link = 'adsl' AND d >= 355;
INSERT INTO outages
SELECT id, tunnel, now - 600000, NULL, 'timeout' FROM series CROSS JOIN year WHERE tunnel = 'customer013' AND link <> '';

-- What lies between outages is up.
INSERT INTO intervals (series_id, state, started_at, ended_at, reason)
SELECT series_id, 'down', started, ended, reason FROM outages;
INSERT INTO intervals (series_id, state, started_at, ended_at)
SELECT series_id, 'up', ended, next
FROM (
    SELECT series_id, ended, lead(started) OVER (PARTITION BY series_id ORDER BY started) AS next FROM outages
)
WHERE ended IS NOT NULL;
INSERT INTO intervals (series_id, state, started_at, ended_at)
SELECT series.id, 'up', start, (SELECT min(started) FROM outages WHERE series_id = series.id)
FROM series CROSS JOIN year
WHERE link <> '';

-- A tunnel: down with both its lines, degraded with one.
INSERT INTO intervals (series_id, state, degraded, started_at, ended_at)
WITH
    changes (tunnel, at, change) AS (
        SELECT tunnel, started, 1 FROM outages
        UNION ALL
        SELECT tunnel, ended, -1 FROM outages WHERE ended IS NOT NULL
        UNION ALL
        SELECT tunnel, start, 0 FROM series CROSS JOIN year WHERE link = ''
    ),
    moments (tunnel, at, change) AS (SELECT tunnel, at, sum(change) FROM changes GROUP BY tunnel, at),
    held (tunnel, at, down, until) AS (
        SELECT
            tunnel, at, sum(change) OVER (PARTITION BY tunnel ORDER BY at),
            lead(at) OVER (PARTITION BY tunnel ORDER BY at)
        FROM moments
    )
SELECT series.id, iif(down = 2, 'down', 'up'), down = 1, at, until
FROM held JOIN series ON series.tunnel = held.tunnel AND series.link = '';

-- Bytes of a line in one minute.
CREATE TEMP TABLE minutes AS
WITH RECURSIVE m (m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM m WHERE m < 7 * 1440 - 1)
SELECT now - now % 3600000 - 7 * 86400000 + m * 60000 AS at FROM m CROSS JOIN year;

INSERT INTO samples_minute (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
SELECT
    at, id,
    (1000000 + (id * 7919 + at / 60000 * 31) % 500000)
        * iif(at >= today - 3 * 86400000 + 72000000 AND at < today - 3 * 86400000 + 75600000, iif(tunnel = 'customer059', 20, 10), 1),
    (2000000 + (id * 104729 + at / 60000 * 17) % 900000)
        * iif(at >= today - 3 * 86400000 + 72000000 AND at < today - 3 * 86400000 + 75600000, iif(tunnel = 'customer059', 20, 10), 1),
    6, iif(tunnel = 'customer077' AND link = 'lte', 400000, 20000 + id * 50), (id + at / 60000) % 5
FROM series CROSS JOIN minutes CROSS JOIN year
WHERE link <> '';

-- Older hours and days, as they were summed up.
INSERT INTO samples_hour (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
WITH RECURSIVE h (h) AS (SELECT 0 UNION ALL SELECT h + 1 FROM h WHERE h < 83 * 24 - 1)
SELECT
    now - now % 3600000 - 90 * 86400000 + h * 3600000, id, 72000000 + (id * 7919 + h * 31) % 5000000,
    140000000 + (id * 104729 + h * 17) % 9000000, 360, 20000 + id * 50, (id + h) % 5
FROM series CROSS JOIN h CROSS JOIN year
WHERE link <> '';

INSERT INTO samples_day (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
SELECT day, id, 1728000000 + id, 3360000000 + id, 8640, 20000 + id * 50, id % 5
FROM series CROSS JOIN days
WHERE link <> '';

-- Summed up as the daemon does it: whole hours of the minutes, and whole days.
INSERT OR REPLACE INTO samples_hour (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
SELECT
    samples_minute.at - samples_minute.at % 3600000 AS hour, series_id, sum(tx_bytes), sum(rx_bytes), sum(samples),
    sum(srtt_us * samples) / sum(samples), sum(loss_permille * samples) / sum(samples)
FROM samples_minute CROSS JOIN year
WHERE samples_minute.at < now - now % 3600000
GROUP BY hour, series_id;
INSERT INTO uptime_days (series_id, day, up, lossy, slow, down, degraded)
SELECT series_id, day, up, lossy, slow, down, degraded FROM uptime_days_open WHERE day < (SELECT today FROM year);
UPDATE settings SET value = (SELECT now - now % 3600000 FROM year) WHERE name = 'hours_rolled_until';
UPDATE settings SET value = (SELECT today FROM year) WHERE name = 'days_rolled_until';

DROP TABLE year;
DROP TABLE days;
DROP TABLE outages;
DROP TABLE minutes;
