-- What each customer has carried this month, by line.
SELECT
    tunnel,
    link,
    round(sum(tx_bytes) / 1e9, 3) AS sent_gigabytes,
    round(sum(rx_bytes) / 1e9, 3) AS received_gigabytes,
    round(100.0 * sum(tx_bytes + rx_bytes) / nullif(sum(sum(tx_bytes + rx_bytes)) OVER (PARTITION BY tunnel), 0), 1)
        AS percent_of_customer
FROM link_traffic_daily
WHERE day >= date('now', 'start of month')
GROUP BY tunnel, link
ORDER BY tunnel, link;
