-- The keys of a cache that were asked for most, as each daemon counts them: what is to be warmed first once Redis, or a daemon,
-- has forgotten them. A row is written anew each time; those of the last 64 daemons of a cache are kept.
CREATE TABLE cachewarden.hot_keys (
    cache    text NOT NULL,
    -- Another one at each start.
    daemon   uuid NOT NULL,
    keys     text[] NOT NULL,
    -- Of each key, of late.
    requests bigint[] NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cache, daemon)
);
