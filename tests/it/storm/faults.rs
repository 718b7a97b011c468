//! What goes wrong, and how it is mended.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::world::World;
use crate::support::proxy::Proxy;
use crate::support::servers::connect;
use crate::support::world::raw;

/// How late a slow network is, each way.
const LATE: Duration = Duration::from_millis(100);

/// What is hit: two faults at a time are of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Redis,
    Postgres,
    Daemon,
    Network,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Killed, and back empty.
    RedisKilled,
    /// Every key is gone.
    RedisEmptied,
    /// It answers nobody.
    RedisFrozen,
    /// Killed, and back with what it held some time before.
    RedisFromSnapshot,
    /// Reads are answered; what writes is not: values are found, and cannot be removed.
    RedisWritesPaused,
    /// Reads are answered; what writes is refused.
    RedisWritesRefused,
    /// Every subscription is ended.
    SubscriptionsCut,
    /// Every session is ended, the writers' own included.
    PostgresCut,
    /// It answers nobody.
    PostgresFrozen,
    /// One of the daemons is killed, and comes back.
    DaemonKilled,
    /// All of them: meanwhile nobody applies what is queued.
    DaemonsKilled,
    /// One of the daemons stands still in whatever it does, and goes on.
    DaemonFrozen,
    /// Every connection of the daemons ends, to both servers.
    NetworkCut,
    /// One of the daemons hears nothing from Redis, and no connection ends; the other goes on.
    DaemonDeaf,
    /// Fills and invalidations come late.
    RedisSlow,
    /// What is queued comes late, and so do loads.
    PostgresSlow,
    /// The daemons do not reach Postgres, and writers do: nobody sees what is queued.
    PostgresOutOfReach,
}

/// All of them.
pub const FAULTS: [Fault; 17] = [
    Fault::RedisKilled,
    Fault::RedisEmptied,
    Fault::RedisFrozen,
    Fault::RedisFromSnapshot,
    Fault::RedisWritesPaused,
    Fault::RedisWritesRefused,
    Fault::SubscriptionsCut,
    Fault::PostgresCut,
    Fault::PostgresFrozen,
    Fault::DaemonKilled,
    Fault::DaemonsKilled,
    Fault::DaemonFrozen,
    Fault::NetworkCut,
    Fault::DaemonDeaf,
    Fault::RedisSlow,
    Fault::PostgresSlow,
    Fault::PostgresOutOfReach,
];

impl Fault {
    pub fn side(self) -> Side {
        match self {
            Self::RedisKilled | Self::RedisEmptied | Self::RedisFrozen => Side::Redis,
            Self::RedisFromSnapshot | Self::SubscriptionsCut => Side::Redis,
            Self::RedisWritesPaused | Self::RedisWritesRefused => Side::Redis,
            Self::PostgresCut | Self::PostgresFrozen => Side::Postgres,
            Self::DaemonKilled | Self::DaemonsKilled | Self::DaemonFrozen => Side::Daemon,
            Self::NetworkCut | Self::DaemonDeaf | Self::RedisSlow => Side::Network,
            Self::PostgresSlow | Self::PostgresOutOfReach => Side::Network,
        }
    }

    /// While it lasts, longer than this says: what happens at once has happened.
    pub async fn begin(self, world: &mut World) {
        match self {
            Self::RedisKilled => world.redis.kill().unwrap(),
            Self::RedisEmptied => {
                raw(&world.redis).await.command(&["FLUSHALL"]).await;
            }
            Self::RedisFrozen => drop(world.redis.freeze().unwrap()),
            Self::RedisFromSnapshot => {
                raw(&world.redis).await.command(&["SAVE"]).await;
            }
            Self::RedisWritesPaused => {
                // Longer than any fault: its end is the end.
                let pause = ["CLIENT", "PAUSE", "600000", "WRITE"];
                raw(&world.redis).await.command(&pause).await;
            }
            Self::RedisWritesRefused => need_replicas(world, "1").await,
            Self::SubscriptionsCut => {
                let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
                raw(&world.redis).await.command(&kill).await;
            }
            Self::PostgresCut => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                let session = connect(&world.postgres.postgres_url("postgres")).await;
                session.batch_execute(all).await.unwrap();
            }
            Self::PostgresFrozen => drop(world.postgres.freeze().unwrap()),
            Self::DaemonKilled => world.kill(0).await,
            Self::DaemonsKilled => {
                world.kill(0).await;
                world.kill(1).await;
            }
            Self::DaemonFrozen => world.signal(0, Signal::STOP),
            Self::NetworkCut => {
                world.to_redis.iter().for_each(Proxy::cut);
                world.to_postgres.cut();
            }
            Self::DaemonDeaf => world.to_redis[0].hold(),
            Self::RedisSlow => world.to_redis.iter().for_each(|way| way.delay(LATE)),
            Self::PostgresSlow => world.to_postgres.delay(LATE),
            Self::PostgresOutOfReach => world.to_postgres.refuse().await,
        }
    }

    pub async fn end(self, world: &mut World) {
        match self {
            Self::RedisKilled => world.redis.start_again().unwrap(),
            Self::RedisFrozen => world.redis.thaw().unwrap(),
            Self::RedisFromSnapshot => {
                world.redis.kill().unwrap();
                world.redis.start_again().unwrap();
                fs::remove_file(world.redis.dir().join("dump.rdb")).unwrap();
            }
            Self::RedisWritesPaused => {
                raw(&world.redis)
                    .await
                    .command(&["CLIENT", "UNPAUSE"])
                    .await;
            }
            Self::RedisWritesRefused => need_replicas(world, "0").await,
            Self::PostgresFrozen => world.postgres.thaw().unwrap(),
            Self::DaemonKilled => world.start_again(0).await,
            Self::DaemonsKilled => {
                world.start_again(0).await;
                world.start_again(1).await;
            }
            Self::DaemonFrozen => world.signal(0, Signal::CONT),
            Self::DaemonDeaf | Self::RedisSlow => {
                for way in &mut world.to_redis {
                    way.pass().await;
                }
            }
            Self::PostgresSlow | Self::PostgresOutOfReach => world.to_postgres.pass().await,
            Self::RedisEmptied | Self::SubscriptionsCut | Self::PostgresCut | Self::NetworkCut => {}
        }
    }
}

/// Without so many replicas, of which there are none, Redis takes no writes.
async fn need_replicas(world: &World, count: &str) {
    let set = ["CONFIG", "SET", "min-replicas-to-write", count];
    let reply = raw(&world.redis).await.command(&set).await;
    assert_eq!(reply.text(), "OK");
}
