//! What becomes of values that age: answered and refreshed behind, or only where they cannot be loaded, and never once they were
//! invalidated.

mod early;
mod errors;
mod popular;
mod revalidate;

use cachewarden::cli::demo::servers::{Postgres, PostgresOptions, Redis};

use super::support::resp::{Client, Value};
use super::support::servers::{database_in, own_postgres, redis};
use super::support::world::World;

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 1000) g";

/// A cache of items; `more` keys are added to its table.
fn cache(more: &str) -> String {
    format!(
        r#"
        [caches.item]
        key = "items:{{id:bigint}}"
        query = "SELECT name FROM items WHERE id = :id"
        shape = "scalar"
        ttl = "10m"
        ttl_jitter = "0%"
        load_timeout = "20s"
        {more}
        "#
    )
}

const HOUR_MS: u64 = 3_600_000;

async fn world(more: &str) -> World {
    World::start(ITEMS, &cache(more)).await
}

/// A world whose Postgres may be killed.
async fn fragile_world(more: &str) -> (Postgres, World) {
    let postgres = own_postgres(&PostgresOptions::default());
    let database = database_in(&postgres).await;
    let world = World::start_in(database, redis(), ITEMS, &cache(more)).await;
    // Commits wait for no disk here: without it, a kill could take the tables along.
    world.database.execute("CHECKPOINT").await;
    (postgres, world)
}

/// Lets so much of a key's life in Redis be left: what it is worth is told from that, so this is how it ages at once.
async fn age(redis: &Redis, key: &str, left_ms: u64) {
    let mut raw = super::support::world::raw(redis).await;
    let aged = raw.command(&["PEXPIRE", key, &left_ms.to_string()]).await;
    assert_eq!(aged, Value::Int(1), "{key} is not there");
}

async fn left_ms(redis: &Redis, key: &str) -> i64 {
    let mut raw = super::support::world::raw(redis).await;
    match raw.command(&["PTTL", key]).await {
        Value::Int(left) => left,
        other => panic!("{other:?}"),
    }
}

/// What `CACHE.GET` tells of an item: its name, and the state.
async fn look(client: &mut Client, key: &str) -> (String, String) {
    let (value, state) = super::support::world::look(client, key).await;
    (value.trim_matches('"').to_owned(), state)
}

fn told(name: &str, state: &str) -> (String, String) {
    (name.to_owned(), state.to_owned())
}
