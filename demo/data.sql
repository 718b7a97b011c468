-- Almost 200,000 rows, the same ones every time: no random(), no now(). Multiplying by a prime and taking the remainder spreads
-- values as if by chance.

INSERT INTO courses
SELECT n,
       (ARRAY['sql', 'rust', 'redis', 'linux', 'networks', 'testing', 'design'])[n % 7 + 1] || '-' || n,
       (ARRAY['SQL', 'Rust', 'Redis', 'Linux', 'Networks', 'Testing', 'Design'])[n % 7 + 1] || ' in practice, part ' || n,
       (ARRAY['first steps', 'everyday', 'expert'])[n % 3 + 1],
       1900 + n * 7919 % 200 * 50,
       n % 5 <> 0,
       timestamptz '2026-01-01 00:00+00' + n * interval '7 minutes'
FROM generate_series(1, 10000) AS n;

INSERT INTO products
SELECT n,
       (ARRAY['book', 'video', 'poster', 'mug'])[n % 4 + 1],
       (ARRAY['Book', 'Video', 'Poster', 'Mug'])[n % 4 + 1] || ' no. ' || n,
       500 + n * 104729 % 90 * 100,
       n * 31 % 250
FROM generate_series(1, 10000) AS n;

INSERT INTO events
SELECT n,
       n * 7919 % 10000 + 1,
       'Evening class ' || n,
       timestamptz '2026-06-01 18:00+00' + n % 365 * interval '1 day',
       12 + n % 20
FROM generate_series(1, 20000) AS n;

INSERT INTO users
SELECT n,
       (ARRAY['Ada', 'Edsger', 'Grace', 'Barbara', 'Donald', 'Frances', 'Tony', 'Radia'])[n % 8 + 1] || ' ' || n,
       'user' || n || '@example.org',
       date '2020-01-01' + n * 7919 % 2000
FROM generate_series(1, 20000) AS n;

-- Users 20, 40, 60 … bought nothing.
INSERT INTO purchases
SELECT user_id,
       (user_id * 31 + nth * 2003) % 10000 + 1,
       timestamptz '2026-02-01 09:00+00' + user_id * interval '1 minute' + nth * interval '1 day'
FROM generate_series(1, 20000) AS user_id, generate_series(1, 2) AS nth
WHERE user_id % 20 <> 0;

INSERT INTO orders
SELECT n,
       n * 7919 % 20000 + 1,
       (ARRAY['paid', 'sent', 'delivered'])[n % 3 + 1],
       timestamptz '2026-03-01 12:00+00' + n * interval '1 minute'
FROM generate_series(1, 40000) AS n;

INSERT INTO order_items
SELECT order_id,
       line,
       (order_id * 13 + line * 4001) % 10000 + 1,
       line,
       500 + (order_id + line) % 90 * 100
FROM generate_series(1, 40000) AS order_id, generate_series(1, 2) AS line
WHERE order_id % 2 = 0 OR line = 1;

-- Plans and index-only scans need what autovacuum would find out in a minute.
VACUUM ANALYZE;
