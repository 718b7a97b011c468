//! What the daemon asks of Redis, command by command: its neighbours there do not wait for it, and what it reads cannot be
//! misread.

use std::collections::HashSet;
use std::time::Duration;

use super::support::daemon::{InProcess, config_without_postgres};
use super::support::monitor::{Command, Monitor};
use super::support::proxy::Proxy;
use super::support::servers::redis;
use super::support::world::{World, raw};
use super::sweeps::fill;

/// How late the network is in these tests, each way: a page takes twice that, and longer than any that Redis is free for.
const LATE: Duration = Duration::from_millis(30);
/// The longest pause of a sweep: what is left to others after such a page.
const PAUSE: Duration = Duration::from_millis(50);

/// A daemon whose programs fill `calc:`, and which reaches Redis so.
async fn daemon(redis_url: &str, is_indexed: bool) -> InProcess {
    let more = format!(
        "redis.timeout = \"5s\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nindex = {is_indexed}\n"
    );
    InProcess::start(&config_without_postgres(redis_url, &more)).await
}

/// `calc:1` to `calc:<count>`, put there by a program through the daemon, so that they are indexed where there is an index.
async fn store(daemon: &InProcess, count: u32) {
    let keys: Vec<String> = (1..=count).map(|n| format!("calc:{n}")).collect();
    let values: Vec<(&str, &u32)> = keys.iter().map(|key| (key.as_str(), &count)).collect();
    daemon.warden.mset(&values, None).await.unwrap();
}

/// The keys of values that commands of this name have removed.
fn values_in(commands: &[Command], name: &str) -> HashSet<String> {
    let named = commands.iter().filter(|command| command.is(name));
    let words = named.flat_map(|command| command.words[1..].to_vec());
    words.filter(|word| word.starts_with("calc:")).collect()
}

/// With `DEL`, Redis frees what it removes while everybody waits: of a large value, or of many.
#[tokio::test]
async fn values_are_unlinked_and_never_deleted_whoever_removes_them() {
    for is_indexed in [false, true] {
        let redis = redis();
        let daemon = daemon(&redis.redis_url(), is_indexed).await;
        // The first sweep builds the index, if there is one.
        daemon.warden.invalidate(&["calc:*"]).await.unwrap();
        let mut monitor = Monitor::start(&redis).await;
        for removal in [&["calc:1", "calc:2"][..], &["calc:*7"], &["calc:*"]] {
            // More than a page: those of the last one are removed apart.
            store(&daemon, 5_000).await;
            monitor.commands().await;
            let removed = daemon.warden.invalidate(removal).await.unwrap();
            let commands = monitor.commands().await;
            let deleted = values_in(&commands, "del");
            assert_eq!(deleted.len(), 0, "deleted for {removal:?}");
            let unlinked = values_in(&commands, "unlink").len();
            assert_eq!(unlinked as u64, removed, "{removal:?}");
            let swept_by_walk = commands.iter().any(|command| command.is("scan"));
            let is_pattern = removal[0].contains('*');
            assert_eq!(swept_by_walk, is_pattern && !is_indexed, "{removal:?}");
        }
        daemon.stop().await;
    }
}

/// The least time from one such command to the next, by Redis' clock, and how many there were.
fn least_gap(commands: &[Command], is_page: impl Fn(&Command) -> bool) -> (Duration, usize) {
    let pages: Vec<Duration> = commands
        .iter()
        .filter(|command| is_page(command))
        .map(|command| command.at)
        .collect();
    let gaps = pages.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    (gaps.min().unwrap_or_default(), pages.len())
}

/// Slow pages are followed by pauses that no machine mistakes for its own: a busy one only makes them longer.
#[tokio::test]
async fn a_sweep_leaves_redis_to_others_between_its_pages() {
    for is_indexed in [false, true] {
        let redis = redis();
        let mut link = Proxy::before_port(redis.port()).await;
        let daemon = daemon(&format!("redis://{}", link.address()), is_indexed).await;
        daemon.warden.invalidate(&["calc:*"]).await.unwrap();
        store(&daemon, 1_000).await;
        fill(&mut raw(&redis).await, "other:", 3_000).await;
        let mut monitor = Monitor::start(&redis).await;
        link.delay(LATE);
        daemon.warden.invalidate(&["calc:*"]).await.unwrap();
        let commands = monitor.commands().await;
        link.pass().await;
        let (gap, pages) = least_gap(&commands, |command| match is_indexed {
            // The one command that only a page of an index begins with.
            true => command.is("zrangebylex") && command.names("[calc:"),
            false => command.is("scan"),
        });
        assert!(pages > 3, "{pages} pages are too few to tell");
        assert!(
            gap >= 2 * LATE + PAUSE,
            "{gap:?} between two of {pages} pages"
        );
        daemon.stop().await;
    }
}

/// In the other order, a value that is replaced in between would pass for as young as the next one. So, only the next one is
/// taken for as old as this one.
#[tokio::test]
async fn how_long_a_value_lives_is_asked_before_the_value() {
    let world = World::start(
        "CREATE TABLE courses (id bigint PRIMARY KEY, title text); INSERT INTO courses VALUES (1, 'a'), (2, 'b')",
        r#"
            [caches.course]
            key = "courses:{id:bigint}"
            query = "SELECT title FROM courses WHERE id = :id"
            shape = "scalar"
            ttl = "10m"
        "#,
    )
    .await;
    let mut client = world.client().await;
    for key in ["courses:1", "courses:2"] {
        client.command(&["GET", key]).await;
    }
    let mut monitor = Monitor::start(&world.redis).await;
    // Also for one that goes together with reads that do not ask for it.
    let reads = [
        &["CACHE.GET", "courses:1"][..],
        &["GET", "courses:2"],
        &["CACHE.GET", "courses:2"],
        &["GET", "courses:1"],
    ];
    for found in [
        client.pipeline(&reads).await.remove(0),
        client.command(reads[0]).await,
    ] {
        assert_eq!(found.field("state").unwrap().text(), "hit");
    }
    let commands = monitor.commands().await;
    let mut lives = HashSet::new();
    let mut asked = 0;
    for command in commands {
        let keys = command.words[1..].iter().cloned();
        match command.words[0].as_str() {
            "pttl" => lives.extend(keys),
            // One look-up goes to its end before the next, for this reader.
            "mget" | "get" => {
                asked += lives.len();
                assert!(
                    lives.iter().all(|key| command.words.contains(key)),
                    "{command:?}"
                );
                lives.clear();
            }
            _ => {}
        }
    }
    assert!(asked >= 2 && lives.is_empty(), "{asked}, then {lives:?}");
    world.daemon.stop().await;
}
