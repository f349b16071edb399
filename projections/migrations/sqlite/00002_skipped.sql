-- +goose Up
-- Parked orders that an operator has given up: they are not retried by themselves, and nobody is warned of them. This is
-- no read model: it does not follow from the ledger.
CREATE TABLE skipped (
    source   BLOB   NOT NULL,
    order_id BLOB   NOT NULL,
    revision BIGINT NOT NULL, -- of the event that was given up
    PRIMARY KEY (source, order_id)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE skipped;
