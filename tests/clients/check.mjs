// What both Node clients do with the daemon. See README.md for what is expected there.

import assert from "node:assert/strict";

export const course = (number) => ({ id: number, title: `course ${number}` });
const parsed = (text) => (text === null ? null : JSON.parse(text));

/** A refusal whose message holds `part`. */
const refused = (call, part) => assert.rejects(call, (error) => error.message.includes(part));

/**
 * Everything a program does, with keys of its own from `first` on. `client` has get, mget(keys), exists(keys), ttl, del(keys),
 * set, and pipeline(commands), which gives the replies with errors in their places.
 */
export async function converse(client, first) {
    const key = `courses:${first}`;
    const other = `courses:${first + 1}`;
    const missing = `courses:${first + 1000}`;
    assert.equal(await client.exists([key]), 0);
    assert.equal(await client.ttl(key), -2);
    assert.deepEqual(parsed(await client.get(key)), course(first), "a miss");
    assert.deepEqual(parsed(await client.get(key)), course(first), "a hit");
    assert.equal(await client.get(missing), null);
    assert.equal(await client.exists([key, missing]), 1);
    const ttl = await client.ttl(key);
    assert.ok(500 < ttl && ttl <= 600, `ttl ${ttl}`);
    const values = await client.mget([key, missing, other]);
    assert.deepEqual(values.map(parsed), [course(first), null, course(first + 1)]);
    assert.equal(await client.del([key, missing]), 1);
    assert.equal(await client.exists([key]), 0);

    // One refused command in a pipeline leaves its neighbours their answers.
    const [value, refusal, exists] = await client.pipeline([
        ["GET", key],
        ["GET", "courses:007"],
        ["EXISTS", key],
    ]);
    assert.deepEqual(parsed(value), course(first));
    assert.ok(refusal instanceof Error && refusal.message.includes("BADKEY"), String(refusal));
    assert.equal(exists, 1);

    await refused(() => client.get("courses:007"), "BADKEY");
    await refused(() => client.get("nothing:here"), "no cache is declared");
    await refused(() => client.set(key, "{}"), "READONLY");
    assert.deepEqual(parsed(await client.get(other)), course(first + 1));
}
