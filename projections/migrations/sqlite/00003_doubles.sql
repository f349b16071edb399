-- +goose Up
-- Orders that another ledger holds too, and whose rows from there count: nobody is shown these.
CREATE TABLE doubles (
    business_unit TEXT NOT NULL,
    order_id      BLOB NOT NULL,
    source        BLOB NOT NULL,
    PRIMARY KEY (business_unit, order_id, source)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE doubles;
