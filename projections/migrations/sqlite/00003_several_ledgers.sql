-- +goose Up
-- Orders that another ledger holds too, and whose rows from there count: nobody is shown these.
CREATE TABLE doubles (
    business_unit TEXT NOT NULL,
    order_id      BLOB NOT NULL,
    source        BLOB NOT NULL,
    PRIMARY KEY (business_unit, order_id, source)
) WITHOUT ROWID;

-- All lanes have come so far at least, whatever stands in their own rows: what is read from the ledger moves them all.
ALTER TABLE sources ADD COLUMN passed BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE sources DROP COLUMN passed;
DROP TABLE doubles;
