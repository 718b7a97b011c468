//! The daemon as the service it is packaged as, under a real systemd: the unit files as they are, each test in a box of its own.
//!
//! What depends on the machine: where it lends the box no control group of memory or tasks, that these are bounded is not proven, and
//! the test says so. That systemd has read the bounds is.

mod doors;
mod failing;
mod life;
mod sandbox;

use super::support::booted::{Booted, boxed};
use super::support::resp::Value;
use super::support::servers::{Database, database, redis, shared_postgres};
use cachewarden::cli::demo::servers::Redis;

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'course-' || n FROM generate_series(1, 100) n";

const COURSE: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, title FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"
    load_timeout = "10s"
"#;

/// What `systemctl status` shows of a daemon that is well.
const READY: &str = "ready: 1 cache, 0 watches, 127.0.0.1:6380, unix:/run/cachewarden/resp.sock";

fn course(id: usize) -> Value {
    Value::bulk(format!(r#"{{"id":{id},"title":"course-{id}"}}"#))
}

/// A box with its servers.
struct Service {
    booted: Booted,
    redis: Redis,
    database: Database,
}

impl Service {
    /// With servers that the box does not see yet, and more lines for the configuration.
    async fn alone(more: &str) -> Self {
        let (redis, database) = (redis(), database().await);
        database.execute(COURSES).await;
        let config = boxed(
            Some((shared_postgres(), &database)),
            &format!("{more}{COURSE}"),
        );
        Self {
            booted: Booted::boot(&config).await,
            redis,
            database,
        }
    }

    /// With servers, and lines that `systemctl edit` would add.
    async fn edited(edits: &str) -> Self {
        let (redis, database) = (redis(), database().await);
        database.execute(COURSES).await;
        let config = boxed(Some((shared_postgres(), &database)), COURSE);
        let this = Self {
            booted: Booted::boot_with(&config, edits).await,
            redis,
            database,
        };
        this.link();
        this
    }

    /// The same, started.
    async fn started(edits: &str) -> Self {
        let this = Self::edited(edits).await;
        this.booted.systemctl(&["start", "cachewarden"]).await;
        this
    }

    /// Lets the box see both servers.
    fn link(&self) {
        self.booted.link_redis(&self.redis);
        self.booted.link_postgres(shared_postgres());
    }

    /// Whether it answers from the database.
    async fn serves(&self) {
        let mut client = self.booted.client().await;
        assert_eq!(client.command(&["GET", "courses:7"]).await, course(7));
    }
}
