-- One row: which ledger this is a copy of. All but the id is unknown before the first contact with it.
CREATE TABLE ledger (
    id          BLOB    NOT NULL,
    lanes       INTEGER,
    format      INTEGER,
    incarnation INTEGER,
    events      INTEGER NOT NULL, -- how many stand in events
    shown       INTEGER NOT NULL  -- position of the newest event that readers see; it is the last one of its append
) STRICT;

-- The verified events, from the first one on, without a gap.
CREATE TABLE events (
    position INTEGER PRIMARY KEY, -- in the ledger
    stream   BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    chain    BLOB    NOT NULL,    -- the hash of this record and all before it
    record   BLOB    NOT NULL     -- the canonical form that the chain covers
) STRICT;

CREATE UNIQUE INDEX events_of_stream ON events (stream, revision);

-- Deliveries that do not link to the verified events yet.
CREATE TABLE held (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT, -- in which order they came
    incarnation INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    chain       BLOB    NOT NULL, -- as the delivery says
    record      BLOB    NOT NULL,
    UNIQUE (incarnation, position)
) STRICT;
