//! An actor that fails as it is told, and what a test needs to talk to it and to see it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use actix_rt::{Arbiter, ArbiterHandle};
use cachewarden::supervisor::{ChildSpec, Handle, Later, Ping, Promise, RestartPolicy, Shutdown};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::support::DEADLINE;
use crate::support::eventually::eventually;

/// Requests the scripted actors' handles admit.
pub const LIMIT: usize = 4;
/// Restarts at once, and takes no slow machine for a stuck actor.
pub const PATIENT: RestartPolicy = RestartPolicy {
    max_restarts: 3,
    window: Duration::from_secs(3600),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(1),
    stuck_after: DEADLINE,
};

/// What the actor is told to do. Answered with the actor's number: 1 for the first that was made, 2 for the second.
#[derive(Message)]
#[rtype(result = "usize")]
pub enum Do {
    Answer,
    Panic,
    Stop,
    /// Take no mail any more.
    GetStuck,
    /// Keep the thread until the other end is dropped.
    BlockThread(std::sync::mpsc::Receiver<()>),
    /// Answer once the other end is dropped.
    Hold(oneshot::Receiver<()>),
}

/// Answered through a promise that is not kept.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Forget;

/// How an actor takes its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Stops,
    PanicsAtShutdown,
    IgnoresShutdown,
}

/// What the test sees of all actors made by one [`script`].
#[derive(Default)]
pub struct Seen {
    pub made: AtomicUsize,
    pub alive: AtomicUsize,
    pub shut_down: Mutex<Vec<String>>,
}

pub struct Scripted {
    name: String,
    number: usize,
    manners: Manners,
    seen: Arc<Seen>,
    ignored: Vec<Promise<()>>,
}

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.seen.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler<Do> for Scripted {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, what: Do, ctx: &mut Context<Self>) -> Self::Result {
        let number = self.number;
        match what {
            Do::Answer => {}
            Do::Panic => panic!("as scripted"),
            Do::Stop => ctx.stop(),
            #[expect(
                clippy::disallowed_methods,
                reason = "what makes it banned is what this shows"
            )]
            Do::GetStuck => ctx.wait(pending::<()>().into_actor(self)),
            Do::BlockThread(released) => drop(released.recv()),
            Do::Hold(released) => {
                return Box::pin(async move {
                    let _dropped = released.await;
                    number
                });
            }
        }
        Box::pin(async move { number })
    }
}

impl Handler<Forget> for Scripted {
    type Result = Later<usize>;

    fn handle(&mut self, _: Forget, _ctx: &mut Context<Self>) -> Self::Result {
        Later::new().0
    }
}

impl Handler<Ping> for Scripted {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for Scripted {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        self.seen.shut_down.lock().push(self.name.clone());
        let (later, promise) = Later::new();
        match self.manners {
            Manners::PanicsAtShutdown => panic!("as scripted"),
            Manners::IgnoresShutdown => self.ignored.push(promise),
            Manners::Stops => {
                promise.keep(());
                ctx.stop();
            }
        }
        later
    }
}

/// One supervised actor and what is needed to talk to it.
pub struct Script {
    pub name: &'static str,
    pub arbiter: ArbiterHandle,
    pub policy: RestartPolicy,
    pub manners: Manners,
    /// The factory panics at these.
    pub not_made: std::ops::RangeInclusive<usize>,
    pub handle: Handle<Do>,
    pub forget: Handle<Forget>,
    pub seen: Arc<Seen>,
}

pub fn script(name: &'static str) -> Script {
    Script {
        name,
        arbiter: Arbiter::current(),
        policy: PATIENT,
        manners: Manners::Stops,
        not_made: 0..=0,
        handle: Handle::unbound("scripted", LIMIT, DEADLINE),
        forget: Handle::unbound("scripted", LIMIT, DEADLINE),
        seen: Arc::default(),
    }
}

impl Script {
    pub fn spec(&self) -> ChildSpec {
        let (name, manners, not_made) = (self.name, self.manners, self.not_made.clone());
        let seen = Arc::clone(&self.seen);
        let make = move || {
            let number = seen.made.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(!not_made.contains(&number), "as scripted");
            seen.alive.fetch_add(1, Ordering::SeqCst);
            Scripted {
                name: name.to_owned(),
                number,
                manners,
                seen: Arc::clone(&seen),
                ignored: Vec::new(),
            }
        };
        let (handle, forget) = (self.handle.clone(), self.forget.clone());
        let bind = move |address: Option<&actix::Addr<Scripted>>| match address {
            Some(address) => {
                handle.bind(address.clone().recipient());
                forget.bind(address.clone().recipient());
            }
            None => {
                handle.unbind();
                forget.unbind();
            }
        };
        ChildSpec::new(self.name, self.arbiter.clone(), self.policy, make, bind)
    }

    /// Asks until an actor answers; its number.
    pub async fn reached(&self) -> usize {
        eventually(DEADLINE, async || self.handle.ask(Do::Answer).await).await
    }

    pub async fn assert_all_gone(&self) {
        eventually(DEADLINE, async || {
            match self.seen.alive.load(Ordering::SeqCst) {
                0 => Ok(()),
                alive => Err(alive),
            }
        })
        .await;
    }
}
