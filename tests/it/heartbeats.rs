//! A daemon vouches for the prefixes that it has cleaned, and for no other daemon's.

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{HEARTBEAT, figure, leave_heartbeat, raw, until};

const TABLES: &str = "CREATE TABLE ones (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO ones SELECT n, 'old' FROM generate_series(1, 100) n;
    CREATE TABLE twos AS SELECT * FROM ones; ALTER TABLE twos ADD PRIMARY KEY (id)";

const ONES: &str = r#"
    [caches.one]
    key = "ones:{id:bigint}"
    query = "SELECT title FROM ones WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
"#;

const TWOS: &str = r#"
    [caches.two]
    key = "twos:{id:bigint}"
    query = "SELECT title FROM twos WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
"#;

const WATCH_ONES: &str = r#"
    [[invalidation.watch]]
    table = "ones"
    invalidate = ["ones:{id}"]
"#;

const WATCH_TWOS: &str = r#"
    [[invalidation.watch]]
    table = "twos"
    invalidate = ["twos:{id}"]
"#;

/// A daemon before a Redis that can be taken from it alone.
struct Member {
    daemon: InProcess,
    client: Client,
    proxy: Proxy,
}

impl Member {
    async fn start(watched: &Watched, redis: &Redis, sections: &str) -> Self {
        let proxy = Proxy::before_port(redis.port()).await;
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let text = config(watched.database.url(), &url, sections);
        let daemon = InProcess::start(&text).await;
        let client = daemon.client().await;
        let mut member = Self {
            daemon,
            client,
            proxy,
        };
        // It is ready without Redis, too.
        member.until_redis_is(1).await;
        member
    }

    async fn get(&mut self, key: &str) -> String {
        self.client.command(&["GET", key]).await.text().to_owned()
    }

    async fn until_redis_is(&mut self, up: u64) {
        until(&mut self.client, "cachewarden_redis_up", up).await;
    }

    /// Reads until Redis serves again, and once more; every read must be as `expected` says.
    async fn reads_while_it_comes_back(&mut self, key: &str, expected: &str) {
        self.proxy.pass().await;
        eventually(DEADLINE, async || {
            assert_eq!(self.get(key).await, expected, "{key}");
            match figure(&mut self.client, "cachewarden_redis_up", "").await {
                1 => Ok(()),
                up => Err(up),
            }
        })
        .await;
        assert_eq!(self.get(key).await, expected, "{key}");
    }
}

/// Two daemons that declare nothing in common.
struct Fleet {
    watched: Watched,
    redis: Redis,
    ones: Member,
    twos: Member,
}

impl Fleet {
    async fn start(watch_ones: &str, watch_twos: &str) -> Self {
        let all = [ONES, TWOS, WATCH_ONES, WATCH_TWOS].concat();
        let watched = Watched::start(TABLES, &all).await;
        let redis = redis();
        let (ones, twos) = ([ONES, watch_ones].concat(), [TWOS, watch_twos].concat());
        Self {
            ones: Member::start(&watched, &redis, &ones).await,
            twos: Member::start(&watched, &redis, &twos).await,
            watched,
            redis,
        }
    }

    /// Fills two keys each, saves, changes the first of each and invalidates it, and starts Redis again from the snapshot.
    async fn lose_invalidations(&mut self) {
        for key in ["1", "4"] {
            assert_eq!(self.ones.get(&format!("ones:{key}")).await, "\"old\"");
            assert_eq!(self.twos.get(&format!("twos:{key}")).await, "\"old\"");
        }
        let mut raw = raw(&self.redis).await;
        for prefix in ["ones:", "twos:"] {
            let there = raw.command(&["HEXISTS", HEARTBEAT, prefix]).await;
            assert_eq!(there, Value::Int(1), "{prefix}");
        }
        assert_eq!(raw.command(&["SAVE"]).await.text(), "OK");
        for (table, member) in [("ones", &mut self.ones), ("twos", &mut self.twos)] {
            let update = format!("UPDATE {table} SET title = 'new' WHERE id = 1");
            self.watched.execute(&update).await;
            let key = format!("{table}:1");
            member.client.command(&["DEL", &key]).await;
            let gone = raw.command(&["EXISTS", &key]).await;
            assert_eq!(gone, Value::Int(0), "it was acknowledged");
            member.proxy.refuse().await;
            member.until_redis_is(0).await;
        }
        self.redis.kill().unwrap();
        self.redis.start_again().unwrap();
    }

    /// Lets the daemon of `ones:` come back, and waits until it has cleaned and said so.
    async fn return_of_ones(&mut self) {
        come_back(&self.redis, &mut self.ones, "ones").await;
        let mut raw = raw(&self.redis).await;
        let kept = raw.command(&["GET", "twos:4"]).await;
        assert_eq!(kept.text(), "\"old\"", "nobody has cleaned those");
    }

    async fn return_of_twos(&mut self) {
        come_back(&self.redis, &mut self.twos, "twos").await;
    }

    async fn stop(self) {
        self.ones.daemon.stop().await;
        self.twos.daemon.stop().await;
    }
}

/// Lets a daemon come back: what it invalidated is never read, and in the end it has cleaned what it declares.
async fn come_back(redis: &Redis, member: &mut Member, table: &str) {
    let (mut raw, prefix) = (raw(redis).await, format!("{table}:"));
    let ask = ["HGET", HEARTBEAT, &prefix];
    let before = raw.command(&ask).await;
    let key = format!("{prefix}1");
    member.reads_while_it_comes_back(&key, "\"new\"").await;
    eventually(DEADLINE, async || match raw.command(&ask).await {
        now if now == before => Err(now),
        _ => Ok(()),
    })
    .await;
    assert_eq!(member.get(&key).await, "\"new\"", "{key}");
}

#[tokio::test]
async fn who_comes_back_second_reads_nothing_outdated_of_what_the_first_does_not_declare() {
    let mut fleet = Fleet::start("", "").await;
    fleet.lose_invalidations().await;
    fleet.return_of_ones().await;
    fleet.return_of_twos().await;
    fleet.stop().await;
}

/// What a daemon without a watched table has invalidated was noted nowhere: the first one's replay lacks it.
#[tokio::test]
async fn a_replay_vouches_for_nobody_elses_prefixes_either() {
    let mut fleet = Fleet::start(WATCH_ONES, "").await;
    until_the_time_is_told(&fleet.redis, "ones:").await;
    fleet.lose_invalidations().await;
    fleet.return_of_ones().await;
    fleet.return_of_twos().await;
    fleet.stop().await;
}

/// The first one back takes nothing from what the others know: they need not sweep what can be replayed.
#[tokio::test]
async fn who_comes_back_second_still_replays_what_is_its_own() {
    let mut fleet = Fleet::start(WATCH_ONES, WATCH_TWOS).await;
    for prefix in ["ones:", "twos:"] {
        until_the_time_is_told(&fleet.redis, prefix).await;
    }
    fleet.lose_invalidations().await;
    fleet.return_of_ones().await;
    fleet.return_of_twos().await;
    let mut raw = raw(&fleet.redis).await;
    for key in ["ones:4", "twos:4"] {
        let kept = raw.command(&["GET", key]).await;
        assert_eq!(kept.text(), "\"old\"", "{key} was not outdated");
    }
    fleet.stop().await;
}

async fn until_the_time_is_told(redis: &Redis, prefix: &str) {
    let mut raw = raw(redis).await;
    eventually(DEADLINE, async || {
        match raw.command(&["HGET", HEARTBEAT, prefix]).await {
            Value::Nil => Err("none".to_owned()),
            beat if beat.text().ends_with(" 0") => Err(beat.text().to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_cache_that_is_new_costs_a_sweep_of_its_own_keys_and_of_no_others() {
    let redis = redis();
    let watched = Watched::unmigrated(TABLES, "").await;
    let mut raw = raw(&redis).await;
    let planted = "\"planted\"";
    for key in ["ones:7", "twos:7"] {
        raw.command(&["SET", key, planted, "EX", "600"]).await;
        let (key, lease) = (key.replace('7', "8"), key.replace('7', "8"));
        let lease = format!("{{{lease}}}:lease");
        raw.command(&["SET", &lease, "token", "EX", "600"]).await;
        let index = ["ZADD", "cachewarden:leases", "9999999999999", &key];
        raw.command(&index).await;
    }
    leave_heartbeat(&mut raw, &["ones:"]).await;
    let left = raw.command(&["HGET", HEARTBEAT, "ones:"]).await;
    // The time is the last word; an id before it may begin with the same digit.
    let told = format!("{} 7", left.text().strip_suffix(" 0").unwrap());
    raw.command(&["HSET", HEARTBEAT, "ones:", &told]).await;

    let mut member = Member::start(&watched, &redis, &[ONES, TWOS].concat()).await;
    assert_eq!(member.get("ones:7").await, planted);
    assert_eq!(member.get("twos:7").await, "\"old\"");
    for (lease, left) in [("{ones:8}:lease", 1), ("{twos:8}:lease", 0)] {
        let there = raw.command(&["EXISTS", lease]).await;
        assert_eq!(there, Value::Int(left), "{lease}");
    }
    // From the next start on it is like any other.
    eventually(DEADLINE, async || {
        match raw.command(&["HEXISTS", HEARTBEAT, "twos:"]).await {
            Value::Int(1) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let kept = raw.command(&["GET", "ones:7"]).await;
    assert_eq!(kept.text(), planted, "nobody has swept those");
    let left = raw.command(&["HGET", HEARTBEAT, "ones:"]).await;
    assert_eq!(left.text(), told, "who knows no time leaves another's");
    member.daemon.stop().await;

    raw.command(&["SET", "twos:9", planted, "EX", "600"]).await;
    let mut member = Member::start(&watched, &redis, TWOS).await;
    assert_eq!(member.get("twos:9").await, planted);
    let life = raw.command(&["TTL", HEARTBEAT]).await;
    assert!(matches!(life, Value::Int(1..)), "{life:?}");
    member.daemon.stop().await;
}
