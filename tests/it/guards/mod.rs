//! Guards under faults: who holds a lock is told apart from who held it before, and no window lets more through than was
//! declared, whatever goes wrong meanwhile.
//!
//! Both storms are held against a record of what was answered; both have a control, in which the same checks must find what is
//! wrong. `GUARDS_SEED` repeats the order of the faults that was printed, `GUARDS_ROUNDS` is how often each comes.

mod limits;
mod locks;
mod pair;
mod record;
mod world;

use std::env;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::support::resp::{Client, Value, frame};

/// A client's connection, which may end at any time.
struct Link(Option<(SocketAddr, Client)>);

impl Link {
    /// Asks who listens there now.
    async fn ask(&mut self, address: SocketAddr, words: &[&str]) -> io::Result<Value> {
        let answer = self.ask_once(address, words).await;
        if answer.is_err() {
            self.0 = None;
        }
        answer
    }

    async fn ask_once(&mut self, address: SocketAddr, words: &[&str]) -> io::Result<Value> {
        let client = match &mut self.0 {
            Some((there, client)) if *there == address => client,
            link => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                &mut link.insert((address, Client::over(stream))).1
            }
        };
        client.send(&frame(words)).await?;
        client.read().await
    }
}

fn asked(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    let seed = asked("GUARDS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    tell(&format!("GUARDS_SEED={seed}"));
    seed
}

#[allow(
    clippy::print_stdout,
    reason = "the course of a storm is told as it goes"
)]
fn tell(what: &str) {
    println!("guards: {what}");
}
