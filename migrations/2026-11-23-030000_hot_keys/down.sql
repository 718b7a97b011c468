DROP TABLE cachewarden.hot_keys;
