DROP FUNCTION cachewarden.fence(text, bigint);
DROP TABLE cachewarden.fences;
DROP SEQUENCE cachewarden.fence_tokens;
