// express-session with connect-redis, as their manuals show them: usage `node express.mjs PORT PORT`, of two daemons over one
// Redis. Two instances of one shop, each behind a daemon of its own, as a load balancer would have them.

import assert from "node:assert/strict";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const DAY_S = 86_400;

async function instance(port) {
    const client = createClient({ url: `redis://127.0.0.1:${port}` });
    client.on("error", (error) => {
        console.error("node-redis:", error);
        process.exit(1);
    });
    await client.connect();
    const store = new RedisStore({ client });
    const app = express();
    app.use(session({ store, secret: "cats", resave: false, saveUninitialized: false, cookie: { maxAge: DAY_S * 1000 } }));
    app.post("/login/:user", (request, response, next) => {
        // As the manual says, so that nobody can fix a session's name beforehand.
        request.session.regenerate((error) => {
            if (error) return next(error);
            request.session.user = request.params.user;
            request.session.save((error) => (error ? next(error) : response.json({ user: request.session.user })));
        });
    });
    app.get("/", (request, response) => {
        response.json({ user: request.session.user ?? null, views: request.session.views ?? 0 });
    });
    app.post("/view", (request, response) => {
        request.session.views = (request.session.views ?? 0) + 1;
        response.json({ views: request.session.views });
    });
    app.post("/short", (request, response) => {
        request.session.cookie.maxAge = 50;
        response.json({});
    });
    app.post("/logout", (request, response, next) => {
        request.session.destroy((error) => (error ? next(error) : response.json({})));
    });
    const server = await new Promise((resolve) => {
        const server = app.listen(0, "127.0.0.1", () => resolve(server));
    });
    return { client, store, server, url: `http://127.0.0.1:${server.address().port}` };
}

/** A browser that keeps its cookie and goes to either instance. */
function browser() {
    let cookie;
    return async (instance, method, path) => {
        const headers = cookie === undefined ? {} : { cookie };
        const response = await fetch(instance.url + path, { method, headers });
        assert.equal(response.status, 200, `${method} ${path}: ${await response.clone().text()}`);
        cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
        return response.json();
    };
}

const [one, other] = await Promise.all(process.argv.slice(2, 4).map(instance));
const [alice, bob, nobody] = [browser(), browser(), browser()];

assert.deepEqual(await nobody(one, "GET", "/"), { user: null, views: 0 });
assert.equal(await one.store.length(), 0, "who has not logged in has no session");

// A session is kept over requests, whichever daemon they come through.
assert.deepEqual(await alice(one, "POST", "/login/alice"), { user: "alice" });
assert.deepEqual(await bob(other, "POST", "/login/bob"), { user: "bob" });
assert.deepEqual(await alice(other, "POST", "/view"), { views: 1 });
assert.deepEqual(await alice(one, "POST", "/view"), { views: 2 });
assert.deepEqual(await alice(other, "GET", "/"), { user: "alice", views: 2 });
assert.deepEqual(await bob(one, "GET", "/"), { user: "bob", views: 0 });

// All of them, by SCAN and MGET.
const all = await other.store.all();
assert.deepEqual(all.map((session) => session.user).sort(), ["alice", "bob"]);
assert.deepEqual((await one.store.ids()).sort(), all.map((session) => session.id).sort());

// A request touches its session: it lives on from then.
const key = `sess:${all.find((session) => session.user === "alice").id}`;
const ttl = () => one.client.ttl(key);
assert.ok((await ttl()) > DAY_S - 600, "a session lives as long as its cookie");
assert.equal(await other.client.expire(key, 600), 1);
assert.ok((await ttl()) <= 600);
await alice(other, "GET", "/");
assert.ok((await ttl()) > DAY_S - 600, "it was touched");

// Logging in again gives another name to the session, and the one before is gone.
await alice(one, "POST", "/login/alice");
assert.equal(await other.client.exists(key), 0);
assert.equal(await other.store.length(), 2);

// Logged out here is logged out there.
await bob(one, "POST", "/logout");
assert.deepEqual(await bob(other, "GET", "/"), { user: null, views: 0 });
assert.equal(await one.store.length(), 1);

// A session ends with its cookie.
await alice(other, "POST", "/short");
const end = Date.now() + 20_000;
while ((await one.store.length()) > 0) {
    assert.ok(Date.now() < end, "it lives on");
    await new Promise((resolve) => setTimeout(resolve, 20));
}
assert.deepEqual(await alice(one, "GET", "/"), { user: null, views: 0 });

// A store that leaves expiry to the server leaves no session for ever.
const endless = new RedisStore({ client: other.client, disableTTL: true });
await endless.set("endless", { cookie: {}, user: "carol" });
const left = await one.client.ttl("sess:endless");
assert.ok(left > 7 * DAY_S - 600 && left <= 7 * DAY_S, `the declared life, and not ${left}`);
await endless.clear();
assert.equal(await one.store.length(), 0);

for (const { client, server } of [one, other]) {
    server.close();
    server.closeAllConnections();
    await client.close();
}
console.log("express-session: ok");
