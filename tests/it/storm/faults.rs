//! What goes wrong, and how it is mended.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::world::World;
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
    /// Fills and invalidations come late.
    RedisSlow,
    /// What is queued comes late, and so do loads.
    PostgresSlow,
    /// The daemons do not reach Postgres, and writers do: nobody sees what is queued.
    PostgresOutOfReach,
}

/// A fault, and what is promised of it.
pub struct Promise {
    pub fault: Fault,
    /// It is one that today's daemon survives.
    pub holds: bool,
    /// While it lasts no daemon gives out an outdated value without saying so.
    pub never_silent: bool,
}

const fn survived(fault: Fault) -> Promise {
    Promise {
        fault,
        holds: true,
        never_silent: false,
    }
}

/// All of them. Rows that do not hold yet are run by nobody until they do.
pub const PROMISES: &[Promise] = &[
    survived(Fault::RedisKilled),
    survived(Fault::RedisEmptied),
    survived(Fault::RedisFrozen),
    survived(Fault::SubscriptionsCut),
    survived(Fault::PostgresCut),
    survived(Fault::PostgresFrozen),
    survived(Fault::DaemonKilled),
    Promise {
        fault: Fault::DaemonsKilled,
        holds: true,
        never_silent: true,
    },
    survived(Fault::DaemonFrozen),
    survived(Fault::NetworkCut),
    survived(Fault::RedisSlow),
    survived(Fault::PostgresSlow),
    survived(Fault::RedisFromSnapshot),
    Promise {
        fault: Fault::PostgresOutOfReach,
        holds: true,
        never_silent: true,
    },
];

impl Fault {
    pub fn side(self) -> Side {
        match self {
            Self::RedisKilled | Self::RedisEmptied | Self::RedisFrozen => Side::Redis,
            Self::RedisFromSnapshot | Self::SubscriptionsCut => Side::Redis,
            Self::PostgresCut | Self::PostgresFrozen => Side::Postgres,
            Self::DaemonKilled | Self::DaemonsKilled | Self::DaemonFrozen => Side::Daemon,
            Self::NetworkCut | Self::RedisSlow => Side::Network,
            Self::PostgresSlow | Self::PostgresOutOfReach => Side::Network,
        }
    }

    /// What is promised of it: all of them stand in the table.
    pub fn promise(self) -> &'static Promise {
        let mut rows = PROMISES.iter();
        rows.find(|row| row.fault == self).unwrap()
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
            Self::DaemonKilled => world.kill(0),
            Self::DaemonsKilled => {
                world.kill(0);
                world.kill(1);
            }
            Self::DaemonFrozen => world.signal(0, Signal::STOP),
            Self::NetworkCut => {
                world.to_redis.cut();
                world.to_postgres.cut();
            }
            Self::RedisSlow => world.to_redis.delay(LATE),
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
            Self::PostgresFrozen => world.postgres.thaw().unwrap(),
            Self::DaemonKilled => world.start_again(0).await,
            Self::DaemonsKilled => {
                world.start_again(0).await;
                world.start_again(1).await;
            }
            Self::DaemonFrozen => world.signal(0, Signal::CONT),
            Self::RedisSlow => world.to_redis.pass().await,
            Self::PostgresSlow | Self::PostgresOutOfReach => world.to_postgres.pass().await,
            Self::RedisEmptied | Self::SubscriptionsCut | Self::PostgresCut | Self::NetworkCut => {}
        }
    }
}
