// The sessions of a busy shop, kept by connect-redis as its manual shows it: usage `node sessions.mjs PORT PORT`, of two daemons
// over one Redis. Its store finds them by SCAN, and then names all of them in one MGET or DEL.

import assert from "node:assert/strict";
import { RedisStore } from "connect-redis";
import { createClient } from "redis";

const SESSIONS = 3_000;

async function connect(port) {
    const client = createClient({ url: `redis://127.0.0.1:${port}` });
    client.on("error", (error) => {
        console.error("node-redis:", error);
        process.exit(1);
    });
    await client.connect();
    return { client, store: new RedisStore({ client }) };
}

const [one, other] = await Promise.all(process.argv.slice(2, 4).map(connect));

// As long as express-session's own ids.
const ids = Array.from({ length: SESSIONS }, (_, n) => String(n).padStart(32, "0"));
await Promise.all(ids.map((id) => one.store.set(id, { cookie: {}, user: `user of ${id}` })));

assert.equal(await other.store.length(), SESSIONS);
assert.deepEqual((await one.store.ids()).sort(), ids);

// Each session is the one of its id.
const all = await other.store.all();
assert.deepEqual(all.map((session) => session.id).sort(), ids);
assert.ok(all.every((session) => session.user === `user of ${session.id}`));

await one.store.clear();
assert.equal(await other.store.length(), 0);
assert.deepEqual(await other.store.all(), []);

await Promise.all([one, other].map(({ client }) => client.close()));
console.log("sessions: ok");
