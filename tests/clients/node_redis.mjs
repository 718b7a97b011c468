// node-redis against the daemon: usage `node node_redis.mjs PORT`.

import { createClient } from "redis";
import { converse } from "./check.mjs";

// The client's own default first, whichever protocol that is.
for (const [first, settings] of [
    [60, {}],
    [70, { RESP: 2 }],
    [80, { RESP: 3 }],
]) {
    const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}`, ...settings });
    client.on("error", (error) => {
        console.error("node-redis:", error);
        process.exit(1);
    });
    await client.connect();
    const adapter = {
        get: (key) => client.get(key),
        mget: (keys) => client.mGet(keys),
        exists: (keys) => client.exists(keys),
        ttl: (key) => client.ttl(key),
        del: (keys) => client.del(keys),
        set: (key, value) => client.set(key, value),
        // What is sent in one tick goes out as one pipeline.
        pipeline: async (commands) => {
            const replies = await Promise.allSettled(commands.map((words) => client.sendCommand(words)));
            return replies.map((reply) => reply.value ?? reply.reason);
        },
    };
    await converse(adapter, first);
    await client.close();
}
console.log("node-redis: ok");
