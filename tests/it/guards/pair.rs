//! Two Redis, of which one leads, on the daemons' way to it.

use std::net::SocketAddr;
use std::time::Duration;

use cachewarden::cli::demo::servers::{Folder, Redis, RedisOptions};
use tokio::time::sleep;

use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::proxy::Proxy;
use crate::support::resp::Client;
use crate::support::world::raw;

pub struct Pair {
    redis: [Redis; 2],
    leader: usize,
    /// The way to the one that leads.
    proxy: Proxy,
    _folder: Folder,
}

impl Pair {
    /// The second follows as soon as it is told to.
    pub async fn start(env: Vec<(String, String)>) -> Self {
        let folder = Folder::new().unwrap();
        let options = RedisOptions {
            args: ["--repl-diskless-sync-delay", "0"].map(String::from).into(),
            env,
        };
        let redis = [(), ()].map(|()| Redis::start(&folder, &options).unwrap());
        Self {
            proxy: Proxy::before_port(redis[0].port()).await,
            redis,
            leader: 0,
            _folder: folder,
        }
    }

    /// Where whoever leads is reached.
    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    pub fn leader(&mut self) -> &mut Redis {
        &mut self.redis[self.leader]
    }

    /// A connection to the one that leads.
    pub async fn raw(&self) -> Client {
        raw(&self.redis[self.leader]).await
    }

    /// The other one follows the one that leads from now on.
    pub async fn follow(&self) {
        let port = self.redis[self.leader].port().to_string();
        let mut follower = raw(&self.redis[1 - self.leader]).await;
        follower.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        eventually(DEADLINE, async || {
            let info = follower.command(&["INFO", "replication"]).await;
            let is_up = info.text().contains("master_link_status:up");
            is_up.then_some(()).ok_or(info)
        })
        .await;
    }

    /// The other one has followed until now, hears no more for `behind`, and leads.
    pub async fn fail_over(&mut self, behind: Duration) {
        self.follow().await;
        self.part().await;
        sleep(behind).await;
        self.switch();
    }

    /// The other one hears no more.
    pub async fn part(&self) {
        let mut follower = raw(&self.redis[1 - self.leader]).await;
        follower.command(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// The other one leads.
    pub fn switch(&mut self) {
        let next = 1 - self.leader;
        self.proxy.lead_to(self.redis[next].port());
        self.proxy.cut();
        self.leader = next;
    }
}
