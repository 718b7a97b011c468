-- Writes that daemons acknowledge first and save later: which of them are saved, and those that cannot be.

-- The ids of writes that were saved, entered by the transaction that saved them: a journal that hands a write out again, because
-- its daemon was killed after the commit or its Redis came back with less, does not have it saved twice. Kept for an hour.
CREATE TABLE cachewarden.written (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = false);

CREATE INDEX written_at ON cachewarden.written (at);

-- Writes that were acknowledged and cannot be saved, for people to look at; none is removed but by them.
CREATE TABLE cachewarden.dead_writes (
    id       uuid PRIMARY KEY,
    cache    text NOT NULL,
    key      text NOT NULL,
    op       text NOT NULL,
    -- As it was given: it may be no JSON.
    value    text,
    error    text NOT NULL,
    sqlstate text,
    attempts integer NOT NULL,
    -- When it was given up.
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
