-- Whose history a series is, so that a tunnel which was renamed while nobody followed its definition is found again.
-- NULL: of a tunnel that was gone when it was recorded.
ALTER TABLE series ADD COLUMN tunnel_id INTEGER;

UPDATE series SET tunnel_id = (SELECT id FROM tunnels WHERE tunnels.name = series.tunnel) WHERE retired_at IS NULL;

CREATE INDEX series_of_tunnel ON series (tunnel_id) WHERE retired_at IS NULL;
