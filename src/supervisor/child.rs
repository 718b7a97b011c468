//! One supervised actor's life, and the supervisor that leads all of them.

use super::health::{ActorState, Health, are_up};
use super::restart::{RestartPolicy, RestartWindow};
use super::{AskError, Handle, Ping, Shutdown};
use actix::{Actor, Addr, AsyncContext, Context, Handler};
use actix_rt::ArbiterHandle;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How often an actor is asked whether it takes its mail.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long an arbiter may take to start an actor before its thread counts as blocked.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long a dropped actor's task may take to be gone before its thread counts as blocked.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
/// Requests in flight on the supervisor's own two handles of a child.
const OWN_REQUESTS: usize = 4;

/// Why an actor is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A handler panicked with this text.
    Panicked(String),
    /// The actor stopped without having been asked to.
    Stopped,
    /// It left a [`Ping`] unanswered and was dropped.
    Stuck,
    /// Its factory panicked.
    NotMade,
    /// Its thread is blocked or has ended; no restart can help.
    ThreadBlocked,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Panicked(text) => write!(f, "panicked: {text}"),
            Exit::Stopped => f.write_str("stopped by itself"),
            Exit::Stuck => f.write_str("no longer took its mail"),
            Exit::NotMade => f.write_str("could not be made: its factory panicked"),
            Exit::ThreadBlocked => f.write_str("lost its thread, which is blocked or has ended"),
        }
    }
}

type Start = Arc<dyn Fn() -> Running + Send + Sync>;
type Unbind = Arc<dyn Fn() + Send + Sync>;

/// A started actor. Dropped, it takes the actor with it: nothing runs on that nobody watches, and no handle points at it.
struct Running {
    task: JoinHandle<()>,
    unbind: Unbind,
}

impl Drop for Running {
    fn drop(&mut self) {
        (self.unbind)();
        self.task.abort();
    }
}

/// How to make, place and restart one child: an actor, or a task without mail.
pub struct ChildSpec {
    name: String,
    arbiter: ArbiterHandle,
    policy: RestartPolicy,
    start: Start,
    mail: Option<Mail>,
}

/// The supervisor's own way to talk to an actor.
#[derive(Clone)]
struct Mail {
    ping: Handle<Ping>,
    shutdown: Handle<Shutdown>,
}

impl ChildSpec {
    /// `make` builds a fresh actor on `arbiter`'s thread at every start; `bind` points the actor's handles at it
    /// (`Some`) and away from it (`None`).
    pub fn new<A>(
        name: impl Into<String>,
        arbiter: ArbiterHandle,
        policy: RestartPolicy,
        make: impl Fn() -> A + Send + Sync + 'static,
        bind: impl Fn(Option<&Addr<A>>) + Send + Sync + 'static,
    ) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Ping> + Handler<Shutdown>,
    {
        let mail = Mail {
            ping: Handle::unbound("supervisor", OWN_REQUESTS, policy.stuck_after),
            shutdown: Handle::unbound("supervisor", OWN_REQUESTS, Duration::from_secs(3600)),
        };
        let bind = Arc::new(bind);
        let unbind: Unbind = {
            let (mail, bind) = (mail.clone(), Arc::clone(&bind));
            Arc::new(move || {
                bind(None);
                mail.ping.unbind();
                mail.shutdown.unbind();
            })
        };
        let start: Start = {
            let mail = mail.clone();
            Arc::new(move || {
                let mut context = Context::new();
                // One bound, not two: the handles' semaphores (see `Handle`).
                context.set_mailbox_capacity(0);
                let address = context.address();
                let running = Running {
                    task: actix_rt::spawn(context.into_future(make())),
                    unbind: Arc::clone(&unbind),
                };
                mail.ping.bind(address.clone().recipient());
                mail.shutdown.bind(address.clone().recipient());
                // The address is not kept: it would keep a stopped actor's mailbox alive.
                bind(Some(&address));
                running
            })
        };
        Self {
            name: name.into(),
            arbiter,
            policy,
            start,
            mail: Some(mail),
        }
    }

    /// A child that takes no mail, such as the keeper of a connection: `make` begins it on `arbiter`'s thread at every
    /// start. It ought to run for ever, and is dropped when it is to stop.
    pub fn task<F>(
        name: impl Into<String>,
        arbiter: ArbiterHandle,
        policy: RestartPolicy,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let start: Start = Arc::new(move || Running {
            task: actix_rt::spawn(make()),
            unbind: Arc::new(|| ()),
        });
        Self {
            name: name.into(),
            arbiter,
            policy,
            start,
            mail: None,
        }
    }
}

/// Leads the children from start to stop. Lives on the main thread; the children's arbiters may be others.
pub struct Supervisor {
    health: Health,
    gave_up: watch::Sender<Option<String>>,
    children: Vec<Child>,
}

struct Child {
    name: String,
    place: usize,
    mail: Option<Mail>,
    stopping: watch::Sender<bool>,
    life: JoinHandle<()>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without children.
    pub fn new() -> Self {
        Self {
            health: Health::default(),
            gave_up: watch::Sender::new(None),
            children: Vec::new(),
        }
    }

    /// The table of all children.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Holds a reason once a child could not be kept running: the process should end with exit 70.
    pub fn gave_up(&self) -> watch::Receiver<Option<String>> {
        self.gave_up.subscribe()
    }

    /// Waits until every child runs.
    ///
    /// # Errors
    /// The reason, if one of them could not be kept running.
    pub async fn all_up(&self) -> Result<(), String> {
        let mut health = self.health.subscribe();
        let mut gave_up = self.gave_up.subscribe();
        tokio::select! {
            _ = health.wait_for(|actors| are_up(actors)) => Ok(()),
            reason = gave_up.wait_for(Option::is_some) => {
                Err(reason.ok().and_then(|reason| reason.clone()).unwrap_or_default())
            }
        }
    }

    /// Starts a child and keeps it running until [`Supervisor::stop`]. Call from within the actix system.
    pub fn start(&mut self, spec: ChildSpec) {
        let stopping = watch::Sender::new(false);
        let life = Life {
            window: RestartWindow::new(spec.policy),
            place: self.health.register(&spec.name),
            health: self.health.clone(),
            gave_up: self.gave_up.clone(),
            stopping: stopping.subscribe(),
            spec,
        };
        self.children.push(Child {
            name: life.spec.name.clone(),
            place: life.place,
            mail: life.spec.mail.clone(),
            stopping,
            life: tokio::spawn(life.run()),
        });
    }

    /// Asks the children to finish, last started first, each for what is left of `deadline`; drops who does not.
    /// Returns the names of those that had to be dropped.
    pub async fn stop(&mut self, deadline: Duration) -> Vec<String> {
        let end = Instant::now() + deadline;
        let mut dropped = Vec::new();
        while let Some(mut child) = self.children.pop() {
            child.stopping.send_replace(true);
            let left = end.saturating_duration_since(Instant::now());
            let finished = tokio::time::timeout(left, async {
                if let Some(mail) = &child.mail {
                    // An actor that is down right now has nothing to finish.
                    let _answer = mail.shutdown.ask(Shutdown { deadline: left }).await;
                }
                (&mut child.life).await
            });
            if finished.await.is_err() {
                child.life.abort();
                // Once it is gone, so is the actor's `Running`.
                let _aborted = child.life.await;
                self.health
                    .update(child.place, |actor| actor.state = ActorState::Stopped);
                dropped.push(child.name);
            }
        }
        dropped
    }
}

/// The loop of one child: start, watch, pause, again.
struct Life {
    spec: ChildSpec,
    place: usize,
    health: Health,
    window: RestartWindow,
    gave_up: watch::Sender<Option<String>>,
    stopping: watch::Receiver<bool>,
}

impl Life {
    async fn run(mut self) {
        while let Some(exit) = self.run_once().await {
            tracing::error!(actor = %self.spec.name, "actor {exit}");
            let pause = match exit {
                Exit::ThreadBlocked => None,
                _ => self.window.next_pause(Instant::now()),
            };
            let Some(pause) = pause else {
                return self.give_up(&exit);
            };
            self.health.update(self.place, |actor| {
                actor.state = ActorState::BackingOff;
                actor.restarts += 1;
                actor.last_exit = Some(exit.to_string());
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        self.health
            .update(self.place, |actor| actor.state = ActorState::Stopped);
    }

    /// One life of the actor: why it ended, or `None` when it was asked to stop.
    async fn run_once(&mut self) -> Option<Exit> {
        let mut running = match self.start().await {
            Ok(running) => running,
            Err(exit) => return Some(exit),
        };
        if self.asked_to_stop() {
            // While it was being started there was nobody to ask.
            return None;
        }
        self.health
            .update(self.place, |actor| actor.state = ActorState::Up);
        let exit = tokio::select! {
            () = self.until_dismissed() => return None,
            ended = &mut running.task => match ended {
                Ok(()) => Exit::Stopped,
                Err(error) if error.is_panic() => Exit::Panicked(panic_text(error.into_panic())),
                Err(_cancelled) => Exit::Stopped,
            },
            () = self.until_stuck() => self.drop_actor(running).await,
        };
        if self.asked_to_stop() {
            if exit != Exit::Stopped {
                tracing::error!(actor = %self.spec.name, "actor {exit} while it was to stop");
            }
            return None;
        }
        Some(exit)
    }

    fn asked_to_stop(&self) -> bool {
        *self.stopping.borrow()
    }

    async fn start(&self) -> Result<Running, Exit> {
        let (made, running) = oneshot::channel();
        let start = Arc::clone(&self.spec.start);
        let sent = self.spec.arbiter.spawn_fn(move || {
            // A thread that comes back too late finds nobody who waits, and starts nothing.
            if !made.is_closed() {
                drop(made.send(start()));
            }
        });
        if !sent {
            return Err(Exit::ThreadBlocked);
        }
        match tokio::time::timeout(START_DEADLINE, running).await {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(_sender_dropped)) => Err(Exit::NotMade),
            Err(_elapsed) => Err(Exit::ThreadBlocked),
        }
    }

    /// Returns when a child that takes no mail is to stop; an actor is asked to.
    async fn until_dismissed(&self) {
        if self.spec.mail.is_some() {
            std::future::pending::<()>().await;
        }
        let mut stopping = self.stopping.clone();
        // An error means that the supervisor is gone, and the child with it.
        let _stopping = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Returns when a ping was left unanswered. Of an actor that was asked to stop nothing is asked any more: how long it
    /// may take is the stop's to say, and who is dropped then is named.
    async fn until_stuck(&self) {
        let Some(mail) = &self.spec.mail else {
            return std::future::pending().await;
        };
        let every = PING_EVERY.min(self.spec.policy.stuck_after);
        loop {
            tokio::time::sleep(every).await;
            let answer = mail.ping.ask(Ping).await;
            if self.asked_to_stop() {
                std::future::pending::<()>().await;
            }
            if let Err(AskError::TimedOut { .. }) = answer {
                return;
            }
        }
    }

    /// Drops a stuck actor. That its task does not go away shows that the thread itself is blocked.
    async fn drop_actor(&self, mut running: Running) -> Exit {
        // Its callers need not wait for it to be gone.
        (running.unbind)();
        running.task.abort();
        match tokio::time::timeout(DROP_DEADLINE, &mut running.task).await {
            Ok(_gone) => Exit::Stuck,
            Err(_elapsed) => Exit::ThreadBlocked,
        }
    }

    fn give_up(&self, exit: &Exit) {
        let often = match exit {
            Exit::ThreadBlocked => "",
            _ => ", too often to go on",
        };
        let reason = format!("actor `{}` {exit}{often}", self.spec.name);
        self.health.update(self.place, |actor| {
            actor.state = ActorState::GaveUp;
            actor.last_exit = Some(exit.to_string());
        });
        self.gave_up.send_replace(Some(reason));
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
