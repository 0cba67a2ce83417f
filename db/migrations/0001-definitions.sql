-- Definitions: what the operator wants. One row per tunnel, its links and filters beside it.
--
-- May be edited with plain SQL while the daemon runs (`mlvpn-admin reload` applies it); whatever a row can be checked for
-- by itself is checked here, the rest when it is read. Times are milliseconds since 1970, UTC.

CREATE TABLE tunnels (
    -- Never used again for another tunnel.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
        CONSTRAINT "tunnel name: 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
        CHECK (length(name) BETWEEN 1 AND 64 AND name GLOB '[A-Za-z0-9]*' AND name NOT GLOB '*[^A-Za-z0-9._-]*'),
    mode TEXT NOT NULL DEFAULT 'server'
        CONSTRAINT "mode: server or client" CHECK (mode IN ('server', 'client')),
    interface TEXT NOT NULL UNIQUE
        CONSTRAINT "interface: 1 to 15 bytes without spaces, '/', ':' or '%'"
        CHECK (length(CAST(interface AS BLOB)) BETWEEN 1 AND 15 AND interface NOT IN ('.', '..')
            AND interface NOT GLOB '*[^!-~]*' AND interface NOT GLOB '*[/:%]*'),
    device TEXT NOT NULL DEFAULT 'tun' CONSTRAINT "device: tun or tap" CHECK (device IN ('tun', 'tap')),
    enabled INTEGER NOT NULL DEFAULT 1 CONSTRAINT "enabled: 0 or 1" CHECK (enabled IN (0, 1)),
    ip4 TEXT CONSTRAINT "ip4: an IPv4 CIDR such as 10.0.0.1/30"
        CHECK (ip4 GLOB '[0-9]*.[0-9]*.[0-9]*.[0-9]*/[0-9]*' AND ip4 NOT GLOB '*[^0-9./]*'),
    ip6 TEXT CONSTRAINT "ip6: an IPv6 CIDR such as 2001:db8::1/64"
        CHECK (ip6 GLOB '*:*:*/[0-9]*' AND ip6 NOT GLOB '*[^0-9A-Fa-f:./]*'),
    gateway4 TEXT CONSTRAINT "gateway4: an IPv4 address"
        CHECK (gateway4 GLOB '[0-9]*.[0-9]*.[0-9]*.[0-9]*' AND gateway4 NOT GLOB '*[^0-9.]*'),
    gateway6 TEXT CONSTRAINT "gateway6: an IPv6 address"
        CHECK (gateway6 GLOB '*:*:*' AND gateway6 NOT GLOB '*[^0-9A-Fa-f:.]*'),
    -- Inner MTU in bytes; NULL: what the links' address family allows.
    mtu INTEGER CONSTRAINT "mtu: from 576 to 1444, to 1430 for tap, and from 1280 with ip6"
        CHECK (mtu BETWEEN 576 AND iif(device = 'tap', 1430, 1444) AND (mtu >= 1280 OR ip6 IS NULL)),
    -- Seconds.
    timeout INTEGER NOT NULL DEFAULT 30 CONSTRAINT "timeout: from 2 to 86400 seconds"
        CHECK (timeout BETWEEN 2 AND 86400),
    -- auto, off, or packets.
    reorder TEXT NOT NULL DEFAULT 'auto' CONSTRAINT "reorder: auto, off or 1 to 65536 packets"
        CHECK (reorder IN ('auto', 'off') OR (reorder GLOB '[1-9]*' AND reorder NOT GLOB '*[^0-9]*'
            AND length(reorder) <= 5 AND CAST(reorder AS INTEGER) <= 65536)),
    -- Percent; 100 is off.
    loss_tolerance INTEGER NOT NULL DEFAULT 100 CONSTRAINT "loss_tolerance: from 0 to 100 percent"
        CHECK (loss_tolerance BETWEEN 0 AND 100),
    -- Milliseconds; 1000 is off.
    latency_tolerance INTEGER NOT NULL DEFAULT 1000 CONSTRAINT "latency_tolerance: from 0 to 60000 ms"
        CHECK (latency_tolerance BETWEEN 0 AND 60000),
    scheduler TEXT NOT NULL DEFAULT 'adaptive' CONSTRAINT "scheduler: wrr, adaptive, redundant or failover"
        CHECK (scheduler IN ('wrr', 'adaptive', 'redundant', 'failover')),
    cleartext_data INTEGER NOT NULL DEFAULT 0 CONSTRAINT "cleartext_data: 0 or 1" CHECK (cleartext_data IN (0, 1)),
    clamp_mss INTEGER NOT NULL DEFAULT 1 CONSTRAINT "clamp_mss: 0 or 1" CHECK (clamp_mss IN (0, 1)),
    device_offload INTEGER NOT NULL DEFAULT 1 CONSTRAINT "device_offload: 0 or 1" CHECK (device_offload IN (0, 1)),
    udp_segment INTEGER NOT NULL DEFAULT 1 CONSTRAINT "udp_segment: 0 or 1" CHECK (udp_segment IN (0, 1)),
    udp_gro INTEGER NOT NULL DEFAULT 1 CONSTRAINT "udp_gro: 0 or 1" CHECK (udp_gro IN (0, 1)),
    status_command TEXT CONSTRAINT "status_command: an absolute path"
        CHECK (status_command GLOB '/*' AND length(CAST(status_command AS BLOB)) <= 4000),
    control_unix_path TEXT CONSTRAINT "control_unix_path: an absolute path"
        CHECK (control_unix_path GLOB '/*' AND length(CAST(control_unix_path AS BLOB)) <= 4000),
    control_bind_host TEXT,
    control_bind_port INTEGER CONSTRAINT "control_bind_port: from 1 to 65535"
        CHECK (control_bind_port BETWEEN 1 AND 65535),
    -- Grows with every change of the tunnel, its links, routes, filters and password, whoever makes it.
    version INTEGER NOT NULL DEFAULT 1,
    CONSTRAINT "control_bind_host needs a control_bind_port"
        CHECK (control_bind_host IS NULL OR control_bind_port IS NOT NULL)
) STRICT;

-- Apart from the rest so that they can be denied as one: CAST('text' AS BLOB) makes one from text.
CREATE TABLE secrets (
    tunnel_id INTEGER PRIMARY KEY REFERENCES tunnels (id) ON DELETE CASCADE,
    password BLOB NOT NULL CONSTRAINT "password: 1 to 1024 bytes" CHECK (length(password) BETWEEN 1 AND 1024)
) STRICT;

CREATE TABLE routes (
    tunnel_id INTEGER NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    cidr TEXT NOT NULL CONSTRAINT "route: a CIDR such as 10.1.0.0/16 or 2001:db8::/32"
        CHECK (cidr GLOB '?*/[0-9]*' AND cidr NOT GLOB '*[^0-9A-Fa-f:./]*'),
    PRIMARY KEY (tunnel_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE links (
    tunnel_id INTEGER NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE,
    position INTEGER NOT NULL DEFAULT 0,
    name TEXT NOT NULL
        CONSTRAINT "link name: 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
        CHECK (length(name) BETWEEN 1 AND 64 AND name GLOB '[A-Za-z0-9]*' AND name NOT GLOB '*[^A-Za-z0-9._-]*'),
    -- NULL: the wildcard; a port of the kernel's choice.
    bind_host TEXT CONSTRAINT "bind_host: an address or a host name"
        CHECK (length(bind_host) BETWEEN 1 AND 253 AND bind_host NOT GLOB '*[^0-9A-Za-z:._-]*'),
    bind_port INTEGER CONSTRAINT "bind_port: from 1 to 65535" CHECK (bind_port BETWEEN 1 AND 65535),
    remote_host TEXT CONSTRAINT "remote_host: an address or a host name"
        CHECK (length(remote_host) BETWEEN 1 AND 253 AND remote_host NOT GLOB '*[^0-9A-Za-z:._-]*'),
    remote_port INTEGER CONSTRAINT "remote_port: from 1 to 65535" CHECK (remote_port BETWEEN 1 AND 65535),
    -- Bytes per second; NULL: auto.
    bandwidth INTEGER CONSTRAINT "bandwidth: more than 0 bytes per second" CHECK (bandwidth > 0),
    -- Bytes per second; NULL: none.
    rate_limit INTEGER CONSTRAINT "rate_limit: at least 1000 bytes per second" CHECK (rate_limit >= 1000),
    -- NULL: the tunnel's.
    timeout INTEGER CONSTRAINT "timeout: from 2 to 86400 seconds" CHECK (timeout BETWEEN 2 AND 86400),
    loss_tolerance INTEGER CONSTRAINT "loss_tolerance: from 0 to 100 percent"
        CHECK (loss_tolerance BETWEEN 0 AND 100),
    latency_tolerance INTEGER CONSTRAINT "latency_tolerance: from 0 to 60000 ms"
        CHECK (latency_tolerance BETWEEN 0 AND 60000),
    fallback INTEGER NOT NULL DEFAULT 0 CONSTRAINT "fallback: 0 or 1" CHECK (fallback IN (0, 1)),
    PRIMARY KEY (tunnel_id, name),
    CONSTRAINT "remote_host and remote_port go together" CHECK ((remote_host IS NULL) = (remote_port IS NULL))
) STRICT, WITHOUT ROWID;

-- In order of position: the first match among links that are up wins.
CREATE TABLE filters (
    tunnel_id INTEGER NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    expression TEXT NOT NULL CONSTRAINT "filter: an expression of 1 to 4096 bytes"
        CHECK (length(CAST(expression AS BLOB)) BETWEEN 1 AND 4096),
    PRIMARY KEY (tunnel_id, position)
) STRICT, WITHOUT ROWID;

-- The links that a filter sends to, by preference.
CREATE TABLE filter_links (
    tunnel_id INTEGER NOT NULL,
    filter INTEGER NOT NULL,
    preference INTEGER NOT NULL DEFAULT 0,
    link TEXT NOT NULL,
    PRIMARY KEY (tunnel_id, filter, preference),
    FOREIGN KEY (tunnel_id, filter) REFERENCES filters (tunnel_id, position) ON DELETE CASCADE ON UPDATE CASCADE
        DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tunnel_id, link) REFERENCES links (tunnel_id, name) ON UPDATE CASCADE
        DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE INDEX filter_links_by_link ON filter_links (tunnel_id, link);

-- Who changed what; a row outlives what it tells of.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    -- The user at the control socket, or what let them in elsewhere; both NULL: the daemon itself.
    uid INTEGER,
    via TEXT,
    action TEXT NOT NULL,
    tunnel TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    -- JSON objects of the fields that changed, before and after; NULL where there was nothing. No passwords.
    old TEXT,
    new TEXT
) STRICT;

CREATE INDEX audit_by_time ON audit (at);

-- Small facts of the database itself.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A tunnel's version grows with every change of what belongs to it.
CREATE TRIGGER tunnels_version AFTER UPDATE ON tunnels WHEN NEW.version = OLD.version
BEGIN
    UPDATE tunnels SET version = OLD.version + 1 WHERE id = NEW.id;
END;

CREATE TRIGGER secrets_version_insert AFTER INSERT ON secrets
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = NEW.tunnel_id;
END;

CREATE TRIGGER secrets_version_update AFTER UPDATE ON secrets
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id IN (NEW.tunnel_id, OLD.tunnel_id);
END;

CREATE TRIGGER secrets_version_delete AFTER DELETE ON secrets
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = OLD.tunnel_id;
END;

CREATE TRIGGER routes_version_insert AFTER INSERT ON routes
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = NEW.tunnel_id;
END;

CREATE TRIGGER routes_version_update AFTER UPDATE ON routes
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id IN (NEW.tunnel_id, OLD.tunnel_id);
END;

CREATE TRIGGER routes_version_delete AFTER DELETE ON routes
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = OLD.tunnel_id;
END;

CREATE TRIGGER links_version_insert AFTER INSERT ON links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = NEW.tunnel_id;
END;

CREATE TRIGGER links_version_update AFTER UPDATE ON links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id IN (NEW.tunnel_id, OLD.tunnel_id);
END;

CREATE TRIGGER links_version_delete AFTER DELETE ON links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = OLD.tunnel_id;
END;

CREATE TRIGGER filters_version_insert AFTER INSERT ON filters
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = NEW.tunnel_id;
END;

CREATE TRIGGER filters_version_update AFTER UPDATE ON filters
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id IN (NEW.tunnel_id, OLD.tunnel_id);
END;

CREATE TRIGGER filters_version_delete AFTER DELETE ON filters
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = OLD.tunnel_id;
END;

CREATE TRIGGER filter_links_version_insert AFTER INSERT ON filter_links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = NEW.tunnel_id;
END;

CREATE TRIGGER filter_links_version_update AFTER UPDATE ON filter_links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id IN (NEW.tunnel_id, OLD.tunnel_id);
END;

CREATE TRIGGER filter_links_version_delete AFTER DELETE ON filter_links
BEGIN
    UPDATE tunnels SET version = version + 1 WHERE id = OLD.tunnel_id;
END;
