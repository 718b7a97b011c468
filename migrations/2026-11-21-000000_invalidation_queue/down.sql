-- Triggers on the watched tables, and the functions they call, are gone before this is run.
-- No CASCADE: what others have built on these is theirs to take away first.
DROP FUNCTION cachewarden.invalidate(text[]);
DROP FUNCTION cachewarden.is_apply_worker();
DROP FUNCTION cachewarden.escape(text);
DROP FUNCTION cachewarden.as_bool(text);
DROP FUNCTION cachewarden.as_date(text);
DROP FUNCTION cachewarden.as_uuid(text);
DROP FUNCTION cachewarden.as_text(text);
DROP FUNCTION cachewarden.as_bigint(text);
DROP FUNCTION cachewarden.as_int(text);
DROP FUNCTION cachewarden.as_integer(text, numeric, numeric);
DROP TABLE cachewarden.applied;
DROP TABLE cachewarden.dead;
DROP TABLE cachewarden.outbox;
