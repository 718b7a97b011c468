-- The queue between the database's own transactions and the daemons: a change and its invalidation are one commit.
-- `cachewarden migrate` has made the schema `cachewarden`, and lists in it what was run.

-- Writers need no rights on the tables; what they may call is granted below.
REVOKE ALL ON SCHEMA cachewarden FROM PUBLIC;

-- A queue, not a log with a cursor: ids are given before a commit and become visible after it, in another order, so who
-- remembers the last id it saw loses rows. A row is complete, keys and patterns as clients spell them, so that a daemon with
-- any configuration can apply it.
CREATE TABLE cachewarden.outbox (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- When the change was made, not when its transaction began: what lies here too long is measured from it.
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The table; `invalidate` for a call of the function below; `migrate` where triggers were installed.
    source   text NOT NULL,
    keys     text[] NOT NULL DEFAULT '{}',
    patterns text[] NOT NULL DEFAULT '{}'
) WITH (
    -- Rows live for milliseconds: what they leave behind is read over by every look at the queue until it is vacuumed. A
    -- part of so small a table is nothing to go by; and giving its end back would lock the writers out.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Rows that no daemon can apply, for people to look at.
CREATE TABLE cachewarden.dead (
    id       bigint PRIMARY KEY,
    at       timestamptz NOT NULL,
    source   text NOT NULL,
    keys     text[] NOT NULL,
    patterns text[] NOT NULL,
    died_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason   text NOT NULL
);

-- What was applied of late, a row a batch: a Redis that comes back with older data is told it again.
CREATE TABLE cachewarden.applied (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    keys     text[] NOT NULL,
    patterns text[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = false);

CREATE INDEX applied_at ON cachewarden.applied (at);

-- The one spelling that a value has as a parameter of a key; NULL for a value that no key can have, such as a number out of
-- range. Values come as Postgres prints them, in ISO style and UTC, whatever their column's type is. None of these may ever
-- fail: it would be the writer's statement that fails. Triggers call them with the writer's own search_path, so every name in
-- here is qualified, operators too.

-- Spelled so already, or any number that is whole and in range: 42.00 equals 42, and so is found by the key that ends in 42.
CREATE FUNCTION cachewarden.as_integer(value text, lowest numeric, highest numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN pg_catalog.octet_length(value) OPERATOR(pg_catalog.<=) 100
                 AND value OPERATOR(pg_catalog.~) '^[[:space:]]*[-+]?[0-9]+([.][0-9]*)?([eE][-+]?[0-9]{1,3})?[[:space:]]*$'
           THEN (SELECT n::bigint::pg_catalog.text
                 FROM (SELECT value::numeric AS n) AS number
                 WHERE n OPERATOR(pg_catalog.=) pg_catalog.trunc(n)
                   AND n OPERATOR(pg_catalog.>=) lowest AND n OPERATOR(pg_catalog.<=) highest)
           END
$$;

CREATE FUNCTION cachewarden.as_int(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value OPERATOR(pg_catalog.~) '^(0|-?[1-9][0-9]{0,8})$' THEN value
           ELSE cachewarden.as_integer(value, -2147483648, 2147483647) END
$$;

CREATE FUNCTION cachewarden.as_bigint(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value OPERATOR(pg_catalog.~) '^(0|-?[1-9][0-9]{0,17})$' THEN value
           ELSE cachewarden.as_integer(value, -9223372036854775808, 9223372036854775807) END
$$;

-- 1 to 200 bytes without spaces, control characters, braces and `:`. Only those of ASCII are looked for: what more a key
-- cannot hold makes an invalidation of nothing, and which those are depends on the database's locale. Spaces at the end are what
-- a char(n) is filled up with.
CREATE FUNCTION cachewarden.as_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN pg_catalog.octet_length(pg_catalog.rtrim(value)) OPERATOR(pg_catalog.>=) 1
                 AND pg_catalog.octet_length(pg_catalog.rtrim(value)) OPERATOR(pg_catalog.<=) 200
                 AND pg_catalog.translate(value, E' {}:\t\n\r', '') OPERATOR(pg_catalog.=) pg_catalog.rtrim(value)
           THEN pg_catalog.rtrim(value) END
$$;

CREATE FUNCTION cachewarden.as_uuid(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value OPERATOR(pg_catalog.~) '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN value
           WHEN pg_catalog.octet_length(value) OPERATOR(pg_catalog.<=) 100
            AND pg_catalog.lower(pg_catalog.translate(value, '{}- ', '')) OPERATOR(pg_catalog.~) '^[0-9a-f]{32}$'
           THEN pg_catalog.regexp_replace(
               pg_catalog.lower(pg_catalog.translate(value, '{}- ', '')),
               '^(.{8})(.{4})(.{4})(.{4})(.{12})$', E'\\1-\\2-\\3-\\4-\\5')
           END
$$;

-- A time is of its day. Years before the first and after 9999 have no spelling.
CREATE FUNCTION cachewarden.as_date(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value OPERATOR(pg_catalog.~) '^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][-+:.0-9]*)?$'
           THEN pg_catalog.left(value, 10) END
$$;

CREATE FUNCTION cachewarden.as_bool(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN pg_catalog.lower(value) OPERATOR(pg_catalog.=) ANY ('{true,t,yes,y,on,1}') THEN 'true'
                WHEN pg_catalog.lower(value) OPERATOR(pg_catalog.=) ANY ('{false,f,no,n,off,0}') THEN 'false' END
$$;

-- A value within a pattern means itself.
CREATE FUNCTION cachewarden.escape(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        value, E'\\', E'\\\\'), '*', E'\\*'), '?', E'\\?'), '[', E'\\['), ']', E'\\]')
$$;

-- Whether this session applies what another server has replicated here. Only row triggers fire for it, and they must keep
-- still in every other session, where the statement triggers speak for all rows at once. Who may not see what the session
-- is, because it is another role's, takes it for one: rows told twice do no harm. Asked for every row, so the answer is kept
-- for the session.
CREATE FUNCTION cachewarden.is_apply_worker() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known text := current_setting('cachewarden.is_apply_worker', true);
BEGIN
    IF known IS NULL OR known = '' THEN
        SELECT coalesce(backend_type LIKE 'logical replication%', true)::text INTO known
        FROM pg_stat_get_activity(pg_backend_pid());
        PERFORM set_config('cachewarden.is_apply_worker', known, false);
    END IF;
    RETURN known::boolean;
END
$$;

-- For programs, inside their own transaction: SELECT cachewarden.invalidate('courses:42', 'courses:list:*').
-- An argument that holds `*`, `?`, `[` or `\` is a pattern. Gives the number of keys and patterns.
CREATE FUNCTION cachewarden.invalidate(VARIADIC names text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
    exact text[] := '{}';
    globs text[] := '{}';
BEGIN
    FOREACH name IN ARRAY coalesce(names, '{}') LOOP
        CONTINUE WHEN name IS NULL;
        IF octet_length(name) NOT BETWEEN 1 AND 512 THEN
            RAISE EXCEPTION 'a key or pattern of % bytes cannot be invalidated', octet_length(name)
                USING ERRCODE = 'invalid_parameter_value', HINT = 'keys and patterns have 1 to 512 bytes';
        ELSIF name ~ E'[*?[\\\\]' THEN
            IF name !~ E'^[^*?[\\\\]+:' THEN
                RAISE EXCEPTION 'pattern % has no literal prefix', quote_literal(name)
                    USING ERRCODE = 'invalid_parameter_value', HINT = 'begin with literal text and a colon, such as courses:*';
            END IF;
            globs := globs || name;
        ELSE
            exact := exact || name;
        END IF;
    END LOOP;
    IF cardinality(exact) + cardinality(globs) > 0 THEN
        INSERT INTO cachewarden.outbox (source, keys, patterns) VALUES ('invalidate', exact, globs);
    END IF;
    RETURN cardinality(exact) + cardinality(globs);
END
$$;

-- What is new in a schema may be called by everybody; here only this may. Whoever should not: REVOKE it, it is granted once.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cachewarden FROM PUBLIC;
GRANT USAGE ON SCHEMA cachewarden TO PUBLIC;
GRANT EXECUTE ON FUNCTION cachewarden.invalidate(text[]) TO PUBLIC;
