//! Four daemons between a Postgres and two Redis, of which one leads, and what may go wrong with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cachewarden::cli::demo::servers::{Folder, Postgres};
use rustix::process::Signal;
use tokio::time::sleep;

use super::pair::Pair;
use crate::clocks::Clock;
use crate::support::daemon::Spawned;
use crate::support::resp::Client;
use crate::support::watched::Watched;

pub const DAEMONS: usize = 4;
const SECTIONS: &str = "redis.timeout = \"200ms\"\n[locks]\n";
/// One row for each write under a fence. Its number is drawn while the fence is held, so it tells the order of the commits.
const GUARD: &str =
    "CREATE TABLE guard (place bigserial PRIMARY KEY, lock text NOT NULL, fence bigint NOT NULL)";
const HOUR: i64 = 3600;
/// Nobody listens there.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A daemon stands still for longer than its locks last, and goes on.
    DaemonFrozen,
    /// A daemon is killed, and comes back.
    DaemonKilled,
    RedisEmptied,
    /// Killed, and back empty.
    RedisKilled,
    /// The other Redis leads from now on, and knows nothing of the last moments.
    RedisFailedOver,
    /// Redis' time of day jumps, and back.
    RedisAhead,
    RedisBehind,
    PostgresFrozen,
}

pub const FAULTS: [Fault; 8] = [
    Fault::DaemonFrozen,
    Fault::DaemonKilled,
    Fault::RedisEmptied,
    Fault::RedisKilled,
    Fault::RedisFailedOver,
    Fault::RedisAhead,
    Fault::RedisBehind,
    Fault::PostgresFrozen,
];

pub struct World {
    pub watched: Watched,
    postgres: Postgres,
    redis: Pair,
    clock: Clock,
    _folder: Folder,
    daemons: [Option<Spawned>; DAEMONS],
}

impl World {
    pub async fn start() -> Self {
        let folder = Folder::new().unwrap();
        let clock = Clock::new(&folder);
        let (postgres, watched) = Watched::start_apart(GUARD, SECTIONS).await;
        let mut world = Self {
            redis: Pair::start(clock.env()).await,
            watched,
            postgres,
            clock,
            _folder: folder,
            daemons: [const { None }; DAEMONS],
        };
        for daemon in 0..DAEMONS {
            world.daemons[daemon] = Some(world.daemon().await);
        }
        world
    }

    async fn daemon(&self) -> Spawned {
        let redis = format!("redis://{}", self.redis.address());
        Spawned::start(self.watched.database.url(), &redis, SECTIONS).await
    }

    pub fn addresses(&self) -> [SocketAddr; DAEMONS] {
        let address = |daemon: &Option<Spawned>| daemon.as_ref().map_or(NOBODY, Spawned::address);
        self.daemons.each_ref().map(address)
    }

    /// A connection to the Redis that leads.
    pub async fn raw(&self) -> Client {
        self.redis.raw().await
    }

    /// Breaks something that `daemon` may be part of, for so long; `tell` is told where daemons listen, whenever that changes.
    pub async fn suffer(
        &mut self,
        fault: Fault,
        daemon: usize,
        lasts: Duration,
        tell: impl Fn([SocketAddr; DAEMONS]),
    ) {
        match fault {
            Fault::DaemonFrozen => {
                let frozen = self.daemons[daemon].as_ref().unwrap();
                frozen.signal(Signal::STOP);
                sleep(lasts).await;
                frozen.signal(Signal::CONT);
            }
            Fault::DaemonKilled => {
                self.daemons[daemon] = None;
                tell(self.addresses());
                sleep(lasts / 4).await;
                self.daemons[daemon] = Some(self.daemon().await);
                tell(self.addresses());
            }
            Fault::RedisEmptied => drop(self.raw().await.command(&["FLUSHALL"]).await),
            Fault::RedisKilled => {
                let redis = self.redis.leader();
                redis.kill().unwrap();
                sleep(lasts / 4).await;
                redis.start_again().unwrap();
            }
            Fault::RedisFailedOver => self.redis.fail_over(lasts / 4).await,
            Fault::RedisAhead | Fault::RedisBehind => {
                let is_ahead = fault == Fault::RedisAhead;
                self.clock.set(if is_ahead { HOUR } else { -HOUR });
                sleep(lasts).await;
                self.clock.set(0);
            }
            Fault::PostgresFrozen => {
                self.postgres.freeze().unwrap();
                sleep(lasts).await;
                self.postgres.thaw().unwrap();
            }
        }
    }
}
