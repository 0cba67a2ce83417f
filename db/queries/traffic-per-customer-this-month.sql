-- What each customer has carried this month, by line. Hours are kept for 90 days (history_hourly_days).
SELECT
    tunnel,
    link,
    round(sum(tx_bytes) / 1e9, 3) AS sent_gigabytes,
    round(sum(rx_bytes) / 1e9, 3) AS received_gigabytes,
    round(100.0 * sum(tx_bytes + rx_bytes) / nullif(sum(sum(tx_bytes + rx_bytes)) OVER (PARTITION BY tunnel), 0), 1)
        AS percent_of_customer
FROM link_traffic_hourly
WHERE hour >= strftime('%Y-%m-01T00:00:00.000Z', 'now')
GROUP BY tunnel, link
ORDER BY tunnel, link;
