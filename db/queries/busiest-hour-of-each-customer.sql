-- The busiest hour of each customer in the last seven days: what a line's contract must carry.
WITH hours AS (
    SELECT tunnel, hour, sum(tx_bytes) AS tx_bytes, sum(rx_bytes) AS rx_bytes
    FROM link_traffic_hourly
    WHERE hour >= strftime('%Y-%m-%dT%H:00:00.000Z', 'now', '-7 days')
    GROUP BY tunnel, hour
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY tunnel ORDER BY tx_bytes + rx_bytes DESC, hour) AS rank FROM hours
)
SELECT
    tunnel,
    hour,
    round(tx_bytes * 8 / 3600 / 1e6, 2) AS sent_mbit_per_second,
    round(rx_bytes * 8 / 3600 / 1e6, 2) AS received_mbit_per_second
FROM ranked
WHERE rank = 1
ORDER BY tx_bytes + rx_bytes DESC, tunnel;
