-- What the function `orders` needs. It may be run again at any time.
--
-- Money is whole cents in a bigint: exact, and a plain i64 in Rust.

CREATE TABLE IF NOT EXISTS product (
    sku text PRIMARY KEY,
    name text NOT NULL,
    -- The upper limit keeps every sum that the function makes within 64 bits.
    price_cents bigint NOT NULL CHECK (price_cents BETWEEN 0 AND 100000000),
    stock integer NOT NULL CHECK (stock >= 0)
);

CREATE TABLE IF NOT EXISTS customer_order (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Lambda repeats an event that failed, with the same request id: it must not order twice.
    request_id text NOT NULL UNIQUE,
    customer text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS order_line (
    order_id bigint NOT NULL REFERENCES customer_order ON DELETE CASCADE,
    sku text NOT NULL REFERENCES product,
    quantity integer NOT NULL CHECK (quantity > 0),
    -- The price at the time of the order.
    price_cents bigint NOT NULL,
    PRIMARY KEY (order_id, sku)
);

INSERT INTO product (sku, name, price_cents, stock) VALUES
    ('lamp', 'Desk lamp', 4900, 100),
    ('chair', 'Oak chair', 12900, 20),
    ('kettle', 'Copper kettle', 7950, 5),
    ('globe', 'Old globe', 39900, 1)
ON CONFLICT (sku) DO NOTHING;
