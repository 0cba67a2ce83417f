-- What bonding was worth to each customer in the last 365 days: hours in which a line was away and they were not.
SELECT
    tunnel,
    round(sum(saved_seconds) / 3600, 2) AS saved_hours,
    count(CASE WHEN saved_seconds > 0 THEN 1 END) AS days_with_trouble
FROM bonding_benefit
WHERE day >= date('now', '-365 days')
GROUP BY tunnel
ORDER BY saved_hours DESC, tunnel;
