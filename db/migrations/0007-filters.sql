-- What is done to a filter or to a link's name is done to what refers to it also where foreign keys are off, as they are in
-- the sqlite3 shell. A link that a filter sends to and that is deleted there is told of when the tunnel is loaded.
CREATE TRIGGER filters_deletion AFTER DELETE ON filters
BEGIN
    DELETE FROM filter_links WHERE tunnel_id = OLD.tunnel_id AND filter = OLD.position;
END;

CREATE TRIGGER filters_move AFTER UPDATE OF position ON filters WHEN NEW.position <> OLD.position
BEGIN
    UPDATE filter_links SET filter = NEW.position WHERE tunnel_id = OLD.tunnel_id AND filter = OLD.position;
END;

CREATE TRIGGER links_rename AFTER UPDATE OF name ON links WHEN NEW.name <> OLD.name
BEGIN
    UPDATE filter_links SET link = NEW.name WHERE tunnel_id = OLD.tunnel_id AND link = OLD.name;
END;

-- What was left behind before.
DELETE FROM filter_links
WHERE NOT EXISTS (
    SELECT 1 FROM filters WHERE filters.tunnel_id = filter_links.tunnel_id AND filters.position = filter_links.filter
);
