//! Reads rows of Postgres through Redis as a program's own types, from inside the program.
//!
//! The declared query tells when it ran: a hit shows the time of the load, and an invalidation makes the next read load
//! again. Any Redis client gets the same values from the daemon's door.
//!
//! ```text
//! cargo run --example read_through        # $POSTGRES_URL and $REDIS_URL, or private servers
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it got")]

mod support;

use cachewarden::Warden;
use cachewarden::config::Config;
use serde::Deserialize;

const CACHES: &str = r#"
[caches.square]
key = "squares:{n:int}"
query = "SELECT :n AS n, :n * :n AS square, clock_timestamp()::text AS loaded_at WHERE :n < 100"
shape = "object"
ttl = "10m"
"#;

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only shown")]
struct Square {
    n: i32,
    square: i32,
    loaded_at: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (postgres_url, _postgres) = support::postgres()?;
    let (redis_url, _redis) = support::redis()?;
    let config = format!(
        "postgres.url = {postgres_url:?}\nredis.url = {redis_url:?}\nresp.listen = [\"127.0.0.1:0\"]\n{CACHES}"
    );
    let warden = Warden::start(Config::from_toml(&config)?).await?;

    // A miss, then a hit: the same row, loaded once.
    for _ in 0..2 {
        let square: Option<Square> = warden.get("squares:7").await?;
        println!("squares:7        {square:?}");
    }
    // All misses of one cache are one statement; a row that does not exist is `None`, and remembered, too.
    let many: Vec<Option<Square>> = warden
        .mget(&["squares:8", "squares:9", "squares:100"])
        .await?;
    println!("squares:8,9,100  {many:#?}");

    // The row has changed, says the program: the next read loads it again.
    let removed = warden.invalidate(&["squares:7"]).await?;
    let square: Option<Square> = warden.get("squares:7").await?;
    println!("{removed} removed, then {square:?}");

    if let Some(address) = warden.resp_addr() {
        println!("for any Redis client: {address}");
    }
    warden.stop().await;
    Ok(())
}
