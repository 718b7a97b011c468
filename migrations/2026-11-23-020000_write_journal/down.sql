DROP TABLE cachewarden.dead_writes;
DROP TABLE cachewarden.written;
