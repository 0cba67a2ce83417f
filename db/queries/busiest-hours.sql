-- The busiest hours of the last seven days over all customers, with the average rate in each direction.
SELECT
    hour,
    round(sum(tx_bytes) / 1e9, 3) AS sent_gigabytes,
    round(sum(rx_bytes) / 1e9, 3) AS received_gigabytes,
    round(sum(tx_bytes) * 8 / 3600 / 1e6, 2) AS sent_mbit_per_second,
    round(sum(rx_bytes) * 8 / 3600 / 1e6, 2) AS received_mbit_per_second
FROM link_traffic_hourly
WHERE hour >= strftime('%Y-%m-%dT%H:00:00.000Z', 'now', '-7 days')
GROUP BY hour
ORDER BY sum(tx_bytes) + sum(rx_bytes) DESC, hour
LIMIT 10;
