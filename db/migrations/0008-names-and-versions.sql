-- What the checks of the tables let through: SQLite's functions see text up to its first NUL only, and so do programs that
-- read it, to which 'acme' and 'acme' || char(0) are two tunnels of one name. And a version that cannot grow.
UPDATE tunnels SET version = 1 WHERE version NOT BETWEEN 1 AND 9007199254740990;

CREATE TRIGGER tunnels_sound_insert BEFORE INSERT ON tunnels
BEGIN
    SELECT RAISE(ABORT, 'tunnel name and interface: may hold no NUL')
    WHERE instr(CAST(NEW.name || NEW.interface AS BLOB), x'00') > 0;
    SELECT RAISE(ABORT, 'version: from 1 to 9007199254740990; it grows by itself')
    WHERE NEW.version NOT BETWEEN 1 AND 9007199254740990;
END;

CREATE TRIGGER tunnels_sound_update BEFORE UPDATE OF name, interface, version ON tunnels
BEGIN
    SELECT RAISE(ABORT, 'tunnel name and interface: may hold no NUL')
    WHERE instr(CAST(NEW.name || NEW.interface AS BLOB), x'00') > 0;
    SELECT RAISE(ABORT, 'version: from 1 to 9007199254740990; it grows by itself')
    WHERE NEW.version NOT BETWEEN 1 AND 9007199254740990;
END;

CREATE TRIGGER links_sound_insert BEFORE INSERT ON links
BEGIN
    SELECT RAISE(ABORT, 'link name: may hold no NUL') WHERE instr(CAST(NEW.name AS BLOB), x'00') > 0;
END;

CREATE TRIGGER links_sound_update BEFORE UPDATE OF name ON links
BEGIN
    SELECT RAISE(ABORT, 'link name: may hold no NUL') WHERE instr(CAST(NEW.name AS BLOB), x'00') > 0;
END;
