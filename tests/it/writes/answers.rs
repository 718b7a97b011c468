//! What is saved is what is read, in Postgres and through every daemon; and what depends on it is loaded anew.

use super::super::support::daemon::{InProcess, config};
use super::super::support::resp::Value;
use super::super::support::world::{figure, get};
use super::{CACHES, DEADLINE, Shop, TABLES, eventually, ok, title};

#[tokio::test]
async fn a_saved_row_is_in_postgres_and_is_what_is_read_next() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    let saved = client.command(&["SET", "courses:1", &title("new")]).await;
    assert_eq!(saved, ok());
    assert_eq!(shop.title(1).await, "new");
    assert_eq!(shop.title(2).await, "old");
    assert_ne!(shop.cached("courses:1").await, Value::bulk("\"old\""));
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    // What was queued is applied, and remembered for a Redis that comes back.
    shop.watched.until_empty().await;
    let applied = "SELECT count(*) FROM cachewarden.applied WHERE 'courses:1' = ANY (keys)";
    assert_eq!(shop.watched.ask(applied).await, "1");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn what_is_named_by_key_is_gone_with_it_and_patterns_soon_after() {
    // Nothing but the write itself invalidates for as long as this takes.
    let caches = format!("{CACHES}\n[invalidation]\npoll = \"1m\"\n");
    let shop = Shop::open_with("", &caches).await;
    let mut client = shop.client().await;
    let keys = ["courses:count", "courses:1:reviews", "courses:2:reviews"];
    for key in keys {
        client.command(&["GET", key]).await;
        assert_ne!(shop.cached(key).await, Value::Nil, "{key}");
    }
    assert_eq!(client.command(&["DEL", "courses:1"]).await, Value::Int(1));
    for key in &keys[..2] {
        assert_eq!(shop.cached(key).await, Value::Nil, "{key}");
    }
    assert_ne!(shop.cached(keys[2]).await, Value::Nil);
    let queued = shop.watched.take().await;
    assert_eq!(queued.len(), 1, "{queued:?}");
    assert_eq!(
        queued[0].keys,
        ["courses:1", "courses:1:reviews", "courses:count"]
    );
    assert_eq!(queued[0].patterns, ["courses:list:*"]);
    shop.daemon.stop().await;

    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let page = client.command(&["GET", "courses:list:1"]).await;
    client.command(&["SET", "courses:1", &title("new")]).await;
    shop.until_gone("courses:list:1", page.text()).await;
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_deleted_row_is_missing_and_is_counted_once() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client.command(&["GET", "courses:3"]).await;
    shop.watched
        .execute("INSERT INTO settings VALUES ('a', '1')")
        .await;
    assert_eq!(get(&mut client, "settings:a").await, "1");
    // One row of two that are named, and a cached value of a cache that deletes nothing.
    let words = ["DEL", "courses:1", "courses:1", "courses:999", "settings:a"];
    assert_eq!(client.command(&words).await, Value::Int(2));
    assert_eq!(client.command(&["GET", "courses:1"]).await, Value::Nil);
    assert_eq!(shop.title(1).await, "nothing");
    assert_eq!(
        client.command(&["UNLINK", "courses:2", "courses:3"]).await,
        Value::Int(2)
    );
    assert_eq!(client.command(&["GET", "courses:3"]).await, Value::Nil);
    assert_eq!(client.command(&["DEL", "courses:3"]).await, Value::Int(0));
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_row_that_was_missing_is_found_once_it_is_saved() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    assert_eq!(client.command(&["GET", "settings:a"]).await, Value::Nil);
    client.command(&["SET", "settings:a", "[1]"]).await;
    assert_eq!(get(&mut client, "settings:a").await, "[1]");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn with_update_the_value_is_loaded_and_cached_before_the_answer() {
    let caches = format!("{CACHES}\n[invalidation]\npoll = \"1m\"\n");
    let shop = Shop::open_with("", &caches).await;
    let mut client = shop.client().await;
    for value in ["{\"a\": 1}", "[ 2,3]"] {
        assert_eq!(client.command(&["SET", "settings:a", value]).await, ok());
        // As Postgres spells it, and not as it was sent.
        let spelled = shop.watched.ask("SELECT value FROM settings").await;
        assert_eq!(shop.cached("settings:a").await, Value::bulk(&spelled));
        assert_ne!(spelled, value.replace("{\"a\": 1}", ""));
    }
    assert_eq!(
        figure(&mut client, "cachewarden_fills_total", "filled").await,
        2
    );
    shop.daemon.stop().await;
}

#[tokio::test]
async fn what_is_loaded_after_a_write_stays_when_the_queue_is_emptied() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let page = client.command(&["GET", "courses:list:1"]).await;
    // Who empties the queue may look between the commit and the moment at which it can be told.
    let stays = async {
        for round in 0..20 {
            let text = round.to_string();
            client.command(&["SET", "settings:a", &text]).await;
            client.command(&["SET", "courses:1", &title(&text)]).await;
            get(&mut client, "courses:1").await;
            shop.watched.until_empty().await;
            let course = shop.cached("courses:1").await;
            let both = (shop.cached("settings:a").await, course);
            if both == (Value::bulk(&text), Value::bulk(format!("\"{text}\""))) {
                return true;
            }
        }
        false
    };
    assert!(stays.await);
    // But patterns are nobody's but the queue's.
    assert_ne!(shop.cached("courses:list:1").await, page);
    shop.daemon.stop().await;
}

#[tokio::test]
async fn many_values_of_several_caches_are_saved_together_or_not_at_all() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let (one, two) = (title("one"), title("two"));
    let words = [
        "MSET",
        "courses:2",
        &two,
        "settings:a",
        "1",
        "courses:1",
        &one,
        "settings:a",
        "2",
    ];
    assert_eq!(client.command(&words).await, ok());
    for (key, value) in [
        ("courses:1", "\"one\""),
        ("courses:2", "\"two\""),
        ("settings:a", "2"),
    ] {
        assert_eq!(get(&mut client, key).await, value, "{key}");
    }
    let empty = title("");
    for words in [
        ["MSET", "settings:a", "3", "courses:1", &empty],
        ["MSET", "settings:a", "3", "courses:999", &one],
        ["MSET", "settings:a", "3", "courses:1", "{"],
    ] {
        let error = client.command(&words).await;
        assert!(error.error().starts_with("ERR "), "{error:?}");
        assert_eq!(get(&mut client, "settings:a").await, "2");
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_hundred_values_are_one_transaction() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let mut words = vec!["MSET".to_owned()];
    for id in (1..=100).rev() {
        words.extend([format!("courses:{id}"), title(&format!("t{id}"))]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(client.command(&words).await, ok());
    let wrong = "SELECT count(*), count(DISTINCT xmin::text) FROM courses WHERE title = 't' || id";
    let row = shop.watched.client.query_one(wrong, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (100, 1));
    assert_eq!(figure(&mut client, "postgres_writes", "").await, 1);
    shop.daemon.stop().await;
}

#[tokio::test]
async fn parameters_of_every_type_are_bound_and_none_is_pasted() {
    let tables = "CREATE TABLE t (a int, b bigint, c text, d uuid, e date, f bool, v jsonb, PRIMARY KEY (a, b, c, d, e, f))";
    let caches = r#"
        [caches.t]
        key = "t:{a:int}:{b:bigint}:{c:text}:{d:uuid}:{e:date}:{f:bool}"
        query = "SELECT v FROM t WHERE a = :a AND b = :b AND c = :c AND d = :d AND e = :e AND f = :f"
        shape = "scalar"
        ttl = "1h"
        write.save = "INSERT INTO t (v, f, e, d, c, b, a) VALUES (:value, :f, :e, :d, :c, :b, :a)"
        write.delete = "DELETE FROM t WHERE a = :a AND b = :b AND c = :c AND d = :d AND e = :e AND f = :f"
        write.also_invalidate = ["t:*:{b}:{c}:*"]
    "#;
    let shop = Shop::open_with(tables, caches).await;
    let mut client = shop.client().await;
    let key = "t:-1:9223372036854775807:x');DROP/**/TABLE/**/t;--*?[\\:0190a5d0-0000-7000-8000-000000000000:2026-02-28:true";
    let value = "{\"a\":\"'; DROP TABLE t; -- $1 \\u00e9 é :a\"}";
    assert_eq!(client.command(&["SET", key, value]).await, ok());
    assert_eq!(
        get(&mut client, key).await,
        "{\"a\": \"'; DROP TABLE t; -- $1 é é :a\"}"
    );
    shop.watched.until_empty().await;
    assert_eq!(
        shop.watched
            .ask("SELECT count(*) FROM cachewarden.dead")
            .await,
        "0"
    );
    let patterns = "SELECT patterns[1] FROM cachewarden.applied";
    let pattern = "t:*:9223372036854775807:x');DROP/\\*\\*/TABLE/\\*\\*/t;--\\*\\?\\[\\\\:*";
    assert_eq!(shop.watched.ask(patterns).await, pattern);
    assert_eq!(client.command(&["DEL", key]).await, Value::Int(1));
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_key_without_parameters_is_saved_and_a_function_may_do_it() {
    let tables = "CREATE TABLE site (v jsonb); INSERT INTO site VALUES ('0');
        CREATE FUNCTION save(new jsonb) RETURNS void LANGUAGE sql AS 'UPDATE site SET v = new'";
    let caches = r#"
        [caches.site]
        key = "site:all"
        query = "SELECT v FROM site"
        shape = "scalar"
        ttl = "1h"
        write.save = "SELECT save(:value)"
        write.delete = "DELETE FROM site -- :none"
    "#;
    let shop = Shop::open_with(tables, caches).await;
    let mut client = shop.client().await;
    assert_eq!(client.command(&["SET", "site:all", "7"]).await, ok());
    assert_eq!(get(&mut client, "site:all").await, "7");
    assert_eq!(client.command(&["DEL", "site:all"]).await, Value::Int(1));
    shop.daemon.stop().await;
}

#[tokio::test]
async fn programs_save_and_remove_rows_and_explain_says_who_has() {
    let shop = Shop::open().await;
    let warden = &shop.daemon.warden;
    let value = serde_json::json!({"title": "by program"});
    warden.save("courses:1", &value).await.unwrap();
    let read: Option<String> = warden.get("courses:1").await.unwrap();
    assert_eq!(read.as_deref(), Some("by program"));
    let pairs = [("courses:2", &value), ("courses:3", &value)];
    warden.save_all(&pairs).await.unwrap();
    assert_eq!(warden.remove(&["courses:2", "courses:3"]).await.unwrap(), 2);
    assert!(warden.save("courses:2", &value).await.is_err());
    assert!(warden.remove(&["settings:a"]).await.is_err());
    shop.watched.until_empty().await;
    let mut client = shop.client().await;
    let story = client.command(&["CACHE.EXPLAIN", "courses:1"]).await;
    let last = story.field("last_invalidation").unwrap();
    assert_eq!(last.field("source").unwrap().text(), "write");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_write_is_heard_by_every_daemon_also_where_values_lie_in_memory() {
    let caches = CACHES.replace("max_value = \"1KiB\"", "max_value = \"1KiB\"\nl1 = true");
    let shop = Shop::open_with("", &caches).await;
    let (postgres, redis) = (shop.watched.database.url(), shop.redis.redis_url());
    let other = InProcess::start(&config(postgres, &redis, &caches)).await;
    let (mut here, mut there) = (shop.client().await, other.client().await);
    for round in 0..50 {
        for client in [&mut here, &mut there] {
            let get: &[&str] = &["GET", "courses:1"];
            client.pipeline(&[get; 3]).await;
        }
        let text = format!("t{round}");
        here.command(&["SET", "courses:1", &title(&text)]).await;
        let new = format!("\"{text}\"");
        assert_eq!(get(&mut here, "courses:1").await, new);
        super::eventually(super::DEADLINE, async || {
            match get(&mut there, "courses:1").await {
                seen if seen == new => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
    }
    other.stop().await;
    shop.daemon.stop().await;
}

#[tokio::test]
async fn what_depends_on_a_watched_table_is_told_by_its_trigger_as_well() {
    let caches = format!(
        "{}\n[[invalidation.watch]]\ntable = \"courses\"\ninvalidate = [\"courses:list:*\"]\n",
        CACHES.replace("\"courses:list:*\", ", "")
    );
    let shop = Shop::open_with("", &caches).await;
    let mut client = shop.client().await;
    let page = client.command(&["GET", "courses:list:1"]).await;
    client.command(&["SET", "courses:1", &title("new")]).await;
    shop.until_gone("courses:list:1", page.text()).await;
    shop.daemon.stop().await;
    assert!(TABLES.contains("courses"));
}

#[tokio::test]
async fn where_nothing_is_watched_hits_of_a_cache_that_is_written_to_are_proven_all_the_same() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client.command(&["GET", "courses:1"]).await;
    // Older than a proof may be before a hit is marked.
    let age = cachewarden::cache::MARKED_AFTER * 2;
    eventually(DEADLINE, async || {
        let found = client.command(&["CACHE.GET", "courses:1"]).await;
        let state = found.field("state").unwrap().text();
        match found.field("age_ms") {
            Some(Value::Int(ms)) if u128::try_from(*ms).unwrap() > age.as_millis() => {
                if state == "hit" { Ok(()) } else { Err(found) }
            }
            _ => Err(found),
        }
    })
    .await;
}
