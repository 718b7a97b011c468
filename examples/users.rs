//! A typed repository with a cache in front: a service's `User` table, read through, and right after every write.
//!
//! ```text
//! cargo run --example users        # $POSTGRES_URL and $REDIS_URL, or private servers
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it got")]

mod support;
#[path = "support/users.rs"]
mod users;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cachewarden::Warden;
use cachewarden::config::Config;
use cachewarden::typed::CacheRepository;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::task::JoinSet;
use users::{User, Users};

const NAMESPACE: &str = r#"
[namespaces.users]
prefix = "users:"
ttl = "10m"
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (postgres_url, _postgres) = support::postgres()?;
    let (redis_url, _redis) = support::redis()?;
    let mut connection = AsyncPgConnection::establish(&postgres_url).await?;
    let schema = format!("DROP TABLE IF EXISTS example_users; {}", users::SCHEMA);
    connection.batch_execute(&schema).await?;
    let config = format!("redis.url = {redis_url:?}\nresp.listen = [\"127.0.0.1:0\"]\n{NAMESPACE}");
    let warden = Warden::start(Config::from_toml(&config)?).await?;

    let queries = Arc::new(AtomicU64::new(0));
    let repository = Users::new(&postgres_url, Arc::clone(&queries))?;
    let users = CacheRepository::new(warden.clone(), "users:", repository);
    for (id, name) in [(1, "Ada"), (2, "Grace"), (3, "Edsger")] {
        let name = name.to_owned();
        users.save(User { id, name }).await?;
    }

    let before = queries.load(Ordering::Relaxed);
    let mut readers = JoinSet::new();
    for _ in 0..100 {
        let users = users.clone();
        readers.spawn(async move { users.find_by_id(&1).await });
    }
    while let Some(found) = readers.join_next().await {
        assert_eq!(found??.map(|user| user.name), Some("Ada".to_owned()));
    }
    let asked = queries.load(Ordering::Relaxed) - before;
    println!("100 readers of one user: {asked} query");

    let names = async |page| {
        let found = users.find_page(page, 2).await?;
        let names: Vec<String> = found.into_iter().map(|user| user.name).collect();
        Ok::<_, Box<dyn Error>>(names.join(", "))
    };
    println!("pages of two: {} | {}", names(1).await?, names(2).await?);
    let name = "Ada Lovelace".to_owned();
    users.save(User { id: 1, name }).await?;
    users.delete(&2).await?;
    println!("after writes: {} | {}", names(1).await?, names(2).await?);
    assert_eq!(names(1).await?, "Ada Lovelace, Edsger");
    warden.stop().await;
    Ok(())
}
