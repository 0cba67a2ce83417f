-- Availability of each customer by month, the last twelve and this one: up while any line is. `met` compares with 99.9 %;
-- unknown time (the concentrator itself did not run) counts neither way.
SELECT
    substr(day, 1, 7) AS month,
    tunnel,
    round(100.0 * sum(up_seconds) / nullif(sum(up_seconds) + sum(down_seconds), 0), 4) AS uptime_percent,
    round(sum(down_seconds) / 60, 1) AS down_minutes,
    round(sum(unknown_seconds) / 60, 1) AS unknown_minutes,
    CASE
        WHEN sum(up_seconds) + sum(down_seconds) = 0 THEN NULL
        WHEN sum(up_seconds) >= 0.999 * (sum(up_seconds) + sum(down_seconds)) THEN 'yes'
        ELSE 'no'
    END AS met
FROM tunnel_uptime_daily
WHERE day >= date('now', 'start of month', '-12 months')
GROUP BY month, tunnel
ORDER BY month DESC, uptime_percent, tunnel;
