-- Lines with the longest round trip, or the most loss, in the last 24 hours.
SELECT
    tunnel,
    link,
    round(avg(srtt_ms), 1) AS average_rtt_ms,
    round(max(srtt_ms), 1) AS worst_hour_rtt_ms,
    round(avg(loss_percent), 2) AS average_loss_percent,
    round(max(loss_percent), 2) AS worst_hour_loss_percent
FROM link_traffic_hourly
WHERE hour >= strftime('%Y-%m-%dT%H:00:00.000Z', 'now', '-24 hours') AND srtt_ms IS NOT NULL
GROUP BY tunnel, link
ORDER BY average_loss_percent > 1 DESC, average_rtt_ms DESC, tunnel, link
LIMIT 20;
