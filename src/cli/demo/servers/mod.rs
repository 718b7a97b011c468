//! A private server lives exactly as long as the process that started it.
//!
//! The demo, the integration tests and the benches all get their Postgres and Redis here.
//!
//! 1. Everything a server writes lies in one [`Folder`], and goes with it.
//! 2. Whatever ends the process that started a server (return, panic, Ctrl-C, SIGKILL) ends the server
//!    and removes the folder: a small `sh` beside us waits for a pipe to close, and the kernel closes that pipe
//!    whatever happens to us.
//! 3. A server listens on 127.0.0.1 and on a unix socket in its folder, and keeps its port when it is started again.
//! 4. Servers never run as root: started by root, they run as `postgres`, else as `nobody`.
//!
//! ```text
//!  our process ──pipe──> watchdog (sh): when the pipe closes, end the servers, remove the folder
//!       ├── spawns ──> postgres ──> its backends
//!       └── spawns ──> redis-server
//! ```
//!
//! Everything here blocks: it is for the start and the end of a program, a test or a bench.

mod error;
mod find;
mod folder;
mod postgres;
mod redis;
mod server;

pub use self::redis::{Redis, RedisOptions};
pub use error::ServerError;
pub use find::free_port;
pub use folder::Folder;
pub use postgres::{Postgres, PostgresOptions};
pub use server::Server;

#[cfg(test)]
mod tests;
