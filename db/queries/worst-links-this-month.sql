-- The worst lines of this month: least uptime first, with how often and how long they were away; an outage that
-- began before is one of this month, too, with all its length.
-- A line of which nothing is known is not listed.
WITH outages AS (
    SELECT tunnel, link, count(*) AS outages, max(seconds) AS longest_seconds
    FROM link_outages
    WHERE ended_at IS NULL OR ended_at >= strftime('%Y-%m-01T00:00:00.000Z', 'now')
    GROUP BY tunnel, link
)
SELECT
    uptime.tunnel,
    uptime.link,
    round(uptime.uptime_percent, 3) AS uptime_percent,
    round(uptime.down_seconds / 60, 1) AS down_minutes,
    round((uptime.lossy_seconds + uptime.slow_seconds) / 60, 1) AS impaired_minutes,
    coalesce(outages.outages, 0) AS outages,
    round(coalesce(outages.longest_seconds, 0) / 60, 1) AS longest_minutes
FROM link_uptime_monthly AS uptime
LEFT JOIN outages ON outages.tunnel = uptime.tunnel AND outages.link = uptime.link
WHERE uptime.month = strftime('%Y-%m', 'now') AND uptime.uptime_percent IS NOT NULL
ORDER BY uptime.uptime_percent, uptime.down_seconds DESC, uptime.tunnel, uptime.link
LIMIT 20;
