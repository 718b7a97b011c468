-- Fencing tokens: whoever acquires a lock gets a number that is higher than any before it, also when Redis has lost
-- everything; and a transaction that is guarded by one refuses the numbers that are lower than the highest it has seen.

-- One for all locks: a number says when something was acquired, and never what. No cache: a session that keeps numbers
-- for later would hand out lower ones after the higher ones of others.
CREATE SEQUENCE cachewarden.fence_tokens AS bigint CACHE 1 NO CYCLE;

-- The highest token that each resource has seen. A row is never in the way, and removing one only forgets.
CREATE TABLE cachewarden.fences (
    resource text PRIMARY KEY,
    token    bigint NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- For programs that hold a lock, as the first statement of their transaction: SELECT cachewarden.fence('reports', 42).
-- It fails with SQLSTATE 55W01 if somebody has acquired the lock since and was here before; otherwise whoever comes with a
-- lower token fails from now on. The row stays locked until the transaction ends, so of two that believe they hold the lock
-- the second waits for the first, and then either is the newer one or fails.
CREATE FUNCTION cachewarden.fence(resource text, token bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    minted bigint;
    seen bigint;
BEGIN
    IF fence.resource IS NULL OR octet_length(fence.resource) NOT BETWEEN 1 AND 512 THEN
        RAISE EXCEPTION 'a resource has a name of 1 to 512 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO minted FROM cachewarden.fence_tokens;
    -- One that was never given out would shut out everybody who comes after.
    IF fence.token IS NULL OR fence.token < 1 OR fence.token > minted THEN
        RAISE EXCEPTION '% is no fencing token that was given out', coalesce(fence.token::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'pass the fence that LOCK.ACQUIRE answered';
    END IF;
    INSERT INTO cachewarden.fences AS known (resource, token) VALUES (fence.resource, fence.token)
    ON CONFLICT ON CONSTRAINT fences_pkey DO UPDATE SET token = excluded.token, at = clock_timestamp()
        WHERE known.token <= excluded.token;
    IF NOT FOUND THEN
        SELECT known.token INTO seen FROM cachewarden.fences AS known WHERE known.resource = fence.resource;
        RAISE EXCEPTION 'the lock of % was acquired again since: token % came before %',
                quote_literal(fence.resource), fence.token, coalesce(seen::text, 'a newer one')
            USING ERRCODE = '55W01', HINT = 'acquire the lock again, and begin anew';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION cachewarden.fence(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cachewarden.fence(text, bigint) TO PUBLIC;
