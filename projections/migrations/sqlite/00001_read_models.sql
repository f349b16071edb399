-- The read models of one region. Types are chosen to mean the same in PostgreSQL, where BLOB is called BYTEA: ids are
-- 16 bytes, moments are microseconds since 1970 in UTC, money is a decimal number as text, days are 2006-01-02. Text is
-- compared by its bytes, as COLLATE "C" does there.
--
-- Rows of the read models follow from the events of the ledger alone. What depends on how and when events arrived
-- stands in sources, lanes and lease.

-- +goose Up

-- One row per order and ledger that holds it.
CREATE TABLE orders (
    business_unit  TEXT   NOT NULL,
    order_id       BLOB   NOT NULL,
    source         BLOB   NOT NULL, -- the ledger that the events come from
    number         TEXT   NOT NULL, -- for people
    status         TEXT   NOT NULL,
    status_since   BIGINT NOT NULL, -- when what led to the status happened
    kind           TEXT   NOT NULL,
    channel        TEXT   NOT NULL,
    customer       TEXT   NOT NULL, -- the value of the identifier by which the buyer is known
    purchase_order TEXT   NOT NULL,
    currency       TEXT   NOT NULL,
    total          TEXT   NOT NULL,
    country        TEXT   NOT NULL, -- that the goods go to
    submitted      BIGINT NOT NULL, -- when it happened, not when the ledger took it
    updated        BIGINT NOT NULL, -- when the newest event happened
    revision       BIGINT NOT NULL, -- of the newest event
    position       BIGINT NOT NULL, -- of the newest event
    epoch          BIGINT NOT NULL,
    promised       TEXT   NOT NULL, -- day on which all that is wanted is promised; empty while some is not
    fold_version   BIGINT NOT NULL,
    folded         BLOB   NOT NULL, -- the whole order; its personal sections are sealed
    PRIMARY KEY (business_unit, order_id, source)
);
CREATE UNIQUE INDEX orders_id ON orders (order_id, source);
CREATE INDEX orders_newest ON orders (business_unit, submitted, order_id, source);
CREATE INDEX orders_status ON orders (business_unit, status, submitted, order_id, source);
CREATE INDEX orders_age ON orders (business_unit, status, status_since);

-- One row per event of an order.
CREATE TABLE timeline (
    business_unit TEXT   NOT NULL,
    order_id      BLOB   NOT NULL,
    source        BLOB   NOT NULL,
    revision      BIGINT NOT NULL,
    position      BIGINT NOT NULL,
    event_id      BLOB   NOT NULL,
    type          TEXT   NOT NULL, -- the event's wire name
    occurred      BIGINT NOT NULL, -- when it happened
    recorded      BIGINT NOT NULL, -- when the ledger took it
    actor_kind    TEXT   NOT NULL,
    actor         TEXT   NOT NULL,
    on_behalf_of  TEXT   NOT NULL,
    status        TEXT   NOT NULL, -- after the event
    summary       TEXT   NOT NULL, -- what sentences for people are made of, as JSON
    reason_code   TEXT   NOT NULL,
    reason_text   TEXT   NOT NULL,
    rule_set      TEXT   NOT NULL, -- hash of the rule set that decided; empty: none did
    rule_row      TEXT   NOT NULL, -- its row that decided
    PRIMARY KEY (business_unit, order_id, source, revision)
) WITHOUT ROWID;

-- What orders can be found by.
CREATE TABLE order_terms (
    business_unit TEXT   NOT NULL,
    value         TEXT   NOT NULL, -- in small letters
    kind          TEXT   NOT NULL, -- number, reference, purchase_order, customer, party, site, sku, tracking or word
    submitted     BIGINT NOT NULL, -- as in orders, to find the newest first
    order_id      BLOB   NOT NULL,
    source        BLOB   NOT NULL,
    PRIMARY KEY (business_unit, value, kind, submitted, order_id, source)
) WITHOUT ROWID;

-- What there is to tell about orders that moved.
CREATE TABLE notifications (
    business_unit TEXT   NOT NULL,
    source        BLOB   NOT NULL,
    position      BIGINT NOT NULL, -- of the event
    n             BIGINT NOT NULL, -- tells entries of one event apart, from 0
    order_id      BLOB   NOT NULL,
    revision      BIGINT NOT NULL,
    number        TEXT   NOT NULL,
    customer      TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    status_before TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    occurred      BIGINT NOT NULL,
    summary       TEXT   NOT NULL, -- as in timeline
    PRIMARY KEY (business_unit, source, position, n)
) WITHOUT ROWID;

-- How many orders are in each status. A status without orders has no row.
CREATE TABLE status_counts (
    business_unit TEXT   NOT NULL,
    source        BLOB   NOT NULL,
    status        TEXT   NOT NULL,
    orders        BIGINT NOT NULL,
    PRIMARY KEY (business_unit, source, status)
) WITHOUT ROWID;

-- Orders of which an event could not be applied. Their rows stay as they were before it.
CREATE TABLE parked (
    source        BLOB   NOT NULL,
    order_id      BLOB   NOT NULL,
    business_unit TEXT   NOT NULL, -- empty where no event said it
    revision      BIGINT NOT NULL, -- of the first event that was not applied
    position      BIGINT NOT NULL, -- of that event
    error         TEXT   NOT NULL,
    PRIMARY KEY (source, order_id)
) WITHOUT ROWID;

-- The ledgers that are followed.
CREATE TABLE sources (
    source         BLOB   NOT NULL PRIMARY KEY,
    incarnation    BIGINT NOT NULL,
    lanes          BIGINT NOT NULL, -- how many there are
    fold_version   BIGINT NOT NULL, -- of all rows from this ledger
    chain_position BIGINT NOT NULL, -- the newest event whose chain hash is known
    chain          BLOB   NOT NULL  -- that hash
) WITHOUT ROWID;

-- The checkpoint: how far the rows have come in each lane.
CREATE TABLE lanes (
    source      BLOB   NOT NULL,
    incarnation BIGINT NOT NULL,
    lane        BIGINT NOT NULL,
    position    BIGINT NOT NULL, -- all events of the lane up to here are in the rows, or parked
    PRIMARY KEY (source, incarnation, lane)
) WITHOUT ROWID;

-- Who may write.
CREATE TABLE lease (
    id      BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    owner   TEXT   NOT NULL, -- empty: nobody
    fence   BIGINT NOT NULL, -- raised whenever the lease changes hands
    expires BIGINT NOT NULL  -- when somebody else may take it
);
INSERT INTO lease (id, owner, fence, expires) VALUES (1, '', 0, 0);
