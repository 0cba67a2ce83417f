-- A tunnel that is deleted takes along what belongs to it also where foreign keys are off, as they are in the sqlite3 shell:
-- its password above all.
CREATE TRIGGER tunnels_deletion AFTER DELETE ON tunnels
BEGIN
    DELETE FROM secrets WHERE tunnel_id = OLD.id;
    DELETE FROM routes WHERE tunnel_id = OLD.id;
    DELETE FROM filter_links WHERE tunnel_id = OLD.id;
    DELETE FROM filters WHERE tunnel_id = OLD.id;
    DELETE FROM links WHERE tunnel_id = OLD.id;
END;

-- What was left behind before.
DELETE FROM secrets WHERE tunnel_id NOT IN (SELECT id FROM tunnels);
DELETE FROM routes WHERE tunnel_id NOT IN (SELECT id FROM tunnels);
DELETE FROM filter_links WHERE tunnel_id NOT IN (SELECT id FROM tunnels);
DELETE FROM filters WHERE tunnel_id NOT IN (SELECT id FROM tunnels);
DELETE FROM links WHERE tunnel_id NOT IN (SELECT id FROM tunnels);
