-- +goose Up
-- Rows are folded anew after this, because the fold has another version: those that are lost here come back.

-- The ledger's own history says that the order lives in another ledger.
ALTER TABLE orders ADD COLUMN has_left BIGINT NOT NULL DEFAULT 0;

-- What one ledger's history of an order has and the one that the row comes from does not take over.
CREATE TABLE conflicts (
    business_unit TEXT   NOT NULL,
    order_id      BLOB   NOT NULL,
    source        BLOB   NOT NULL,
    conflict      TEXT   NOT NULL, -- its id in the order
    number        TEXT   NOT NULL, -- the order's, for people
    is_open       BIGINT NOT NULL, -- 1: nobody has settled it
    found         BIGINT NOT NULL,
    ledger        TEXT   NOT NULL, -- whose history has it
    command       TEXT   NOT NULL, -- that was done there; empty: a site was reached
    action        TEXT   NOT NULL,
    code          TEXT   NOT NULL, -- why it was not taken
    site          TEXT   NOT NULL,
    fulfilment    TEXT   NOT NULL,
    revision      BIGINT NOT NULL, -- there
    settled       BIGINT NOT NULL, -- when; 0: it is open
    reason_code   TEXT   NOT NULL, -- how it was settled
    reason_text   TEXT   NOT NULL,
    PRIMARY KEY (business_unit, order_id, source, conflict)
) WITHOUT ROWID;
CREATE INDEX conflicts_newest ON conflicts (business_unit, is_open, found, order_id, conflict);

-- Of an event that several ledgers hold one tells, and nobody has to pass over what the others would tell.
DROP TABLE notifications;
CREATE TABLE notifications (
    business_unit TEXT   NOT NULL,
    source        BLOB   NOT NULL,
    told          BIGINT NOT NULL, -- 0: another ledger tells it, or it does not count
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
    PRIMARY KEY (business_unit, source, told, position, n)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE notifications;
CREATE TABLE notifications (
    business_unit TEXT   NOT NULL,
    source        BLOB   NOT NULL,
    position      BIGINT NOT NULL,
    n             BIGINT NOT NULL,
    order_id      BLOB   NOT NULL,
    revision      BIGINT NOT NULL,
    number        TEXT   NOT NULL,
    customer      TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    status_before TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    occurred      BIGINT NOT NULL,
    summary       TEXT   NOT NULL,
    PRIMARY KEY (business_unit, source, position, n)
) WITHOUT ROWID;
DROP TABLE conflicts;
ALTER TABLE orders DROP COLUMN has_left;
