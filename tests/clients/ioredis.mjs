// ioredis against the daemon: usage `node ioredis.mjs PORT`.

import { Redis } from "ioredis";
import { converse } from "./check.mjs";

const redis = new Redis(Number(process.argv[2]));
redis.on("error", (error) => {
    console.error("ioredis:", error);
    process.exit(1);
});
const adapter = {
    get: (key) => redis.get(key),
    mget: (keys) => redis.mget(keys),
    exists: (keys) => redis.exists(...keys),
    ttl: (key) => redis.ttl(key),
    del: (keys) => redis.del(...keys),
    set: (key, value) => redis.set(key, value),
    pipeline: async (commands) => {
        const pipeline = redis.pipeline();
        for (const [name, ...args] of commands) pipeline.call(name, ...args);
        return (await pipeline.exec()).map(([error, reply]) => error ?? reply);
    },
};
await converse(adapter, 40);
await redis.quit();
console.log("ioredis: ok");
