-- Whose a port is: asked for every tunnel that is added or changed.
CREATE INDEX links_by_port ON links (bind_port);
