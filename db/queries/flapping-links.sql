-- Lines that came and went most often in the last seven days: many short outages are a bad contact, few long ones are not.
SELECT
    tunnel,
    link,
    count(*) AS outages,
    round(avg(seconds), 1) AS average_seconds,
    round(sum(seconds) / 60, 1) AS total_minutes,
    max(started_at) AS last_started_at
FROM link_outages
WHERE started_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-7 days')
GROUP BY tunnel, link
HAVING count(*) >= 3
ORDER BY outages DESC, tunnel, link
LIMIT 20;
