-- The longest outages of lines in the last thirty days, whenever they began; ended_at is empty while one lasts.
SELECT tunnel, link, started_at, ended_at, round(seconds / 60, 1) AS minutes, reason
FROM link_outages
WHERE ended_at IS NULL OR ended_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-30 days')
ORDER BY seconds DESC, tunnel, link
LIMIT 20;
