-- A small shop: what an ordinary web application keeps in Postgres. Every query of `cachewarden.toml` beside this
-- file has an index behind it.

CREATE TABLE courses (
    id          bigint PRIMARY KEY,
    slug        text NOT NULL UNIQUE,
    title       text NOT NULL,
    level       text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0),
    published   boolean NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX courses_published ON courses (id) WHERE published;

CREATE TABLE products (
    id          bigint PRIMARY KEY,
    kind        text NOT NULL,
    name        text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0),
    stock       integer NOT NULL
);
CREATE INDEX products_by_kind ON products (kind, id);

CREATE TABLE events (
    id        bigint PRIMARY KEY,
    course_id bigint NOT NULL REFERENCES courses,
    title     text NOT NULL,
    starts_at timestamptz NOT NULL,
    seats     integer NOT NULL
);

CREATE TABLE users (
    id        bigint PRIMARY KEY,
    name      text NOT NULL,
    email     text NOT NULL UNIQUE,
    joined_on date NOT NULL
);

-- What a user may watch: one row a course bought.
CREATE TABLE purchases (
    user_id   bigint NOT NULL REFERENCES users,
    course_id bigint NOT NULL REFERENCES courses,
    bought_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, course_id)
);

-- How far they have watched it.
CREATE TABLE progress (
    user_id   bigint NOT NULL REFERENCES users,
    course_id bigint NOT NULL REFERENCES courses,
    minute    integer NOT NULL CHECK (minute >= 0),
    PRIMARY KEY (user_id, course_id)
);

CREATE TABLE orders (
    id        bigint PRIMARY KEY,
    user_id   bigint NOT NULL REFERENCES users,
    status    text NOT NULL,
    placed_at timestamptz NOT NULL
);
CREATE INDEX orders_by_user ON orders (user_id, id);

CREATE TABLE order_items (
    order_id    bigint NOT NULL REFERENCES orders,
    line        integer NOT NULL,
    product_id  bigint NOT NULL REFERENCES products,
    quantity    integer NOT NULL,
    price_cents integer NOT NULL,
    PRIMARY KEY (order_id, line)
);
