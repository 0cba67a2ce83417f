-- Lines that are away at present, the longest first.
SELECT tunnel, link, started_at, round(seconds / 60, 1) AS minutes, reason
FROM link_outages
WHERE ended_at IS NULL
ORDER BY started_at, tunnel, link;
