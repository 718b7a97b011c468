//! A door before an actor that answers as the limit's name tells it, and remembers what it was asked.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use actix_rt::Arbiter;
use bytes::Bytes;
use cachewarden::audit::AuditHandle;
use cachewarden::cache::{CacheHandle, L1};
use cachewarden::config::Config;
use cachewarden::invalidation::InvalidationHandle;
use cachewarden::lock::LockHandle;
use cachewarden::rate_limit::{
    Ask, Asked, Check, Decision, Declared, Denied, Fixed, LimitError, Policy, RateLimitHandle,
    Refund, Release, Reset, Throttle,
};
use cachewarden::resp::{self, Door, Passed, RateLimits, Server};
use cachewarden::store::StoreError;
use cachewarden::supervisor::AskError;
use cachewarden::telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::support::DEADLINE;
use crate::support::daemon::config_without_postgres;
use crate::support::resp::Client;

/// What the actor was asked, a line a message.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A door whose actor is scripted. Drop it to end it.
pub struct Stage {
    server: Option<Server>,
    address: std::net::SocketAddr,
    pub seen: Seen,
    /// The refusals that stand.
    pub denied: Denied,
}

impl Stage {
    pub fn open() -> Self {
        Self::open_with(&["api", "day"])
    }

    /// With these limits declared.
    pub fn open_with(names: &[&str]) -> Self {
        Self::before(RateLimitHandle::unbound(Declared::default()), names)
    }

    /// With this handle of the actor.
    pub fn before(handle: RateLimitHandle, names: &[&str]) -> Self {
        let text = config_without_postgres("redis://127.0.0.1:1", "");
        let config = Config::from_toml(&text).unwrap();
        let listening = resp::open(&config.resp, Passed::default()).unwrap();
        let address = listening.tcp_addresses()[0];
        let (seen, denied) = (Seen::default(), Denied::new(Metrics::new()));
        bind(&handle, Scripted::new(Arc::clone(&seen)));
        let names = names.iter().copied().map(String::from).collect();
        let asked = resp::Asked {
            caches: Arc::from([CacheHandle::unbound(DEADLINE)]),
            invalidation: InvalidationHandle::unbound(),
            l1: L1::default(),
            audit: AuditHandle::unbound(),
            plain: Arc::from([]),
            locks: LockHandle::unbound(),
            warmup: None,
            rate_limits: RateLimits {
                actor: handle,
                names: watch::Sender::new(names).subscribe(),
                denied: denied.clone(),
            },
        };
        let door = Door::new(&config, asked, Metrics::new(), Arc::new(Vec::new));
        let server = Server::start(listening, Arc::new(door), [Arbiter::current()].into());
        Self {
            server: Some(server),
            address,
            seen,
            denied,
        }
    }

    /// A connection that speaks this version of the protocol.
    pub async fn client(&self, protocol: &str) -> Client {
        let mut client = Client::connect(self.address).await;
        client.command(&["HELLO", protocol]).await;
        client
    }

    /// What the actor was asked since this was asked last.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock())
    }

    pub async fn close(mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::ZERO).await;
        }
    }
}

fn bind(handle: &RateLimitHandle, actor: Scripted) {
    let address = actor.start();
    handle.check.bind(address.clone().recipient());
    handle.fixed.bind(address.clone().recipient());
    handle.throttle.bind(address.clone().recipient());
    handle.reset.bind(address.clone().recipient());
    handle.refund.bind(address.clone().recipient());
    handle.release.bind(address.recipient());
}

struct Scripted {
    seen: Seen,
    /// Checks answered so far: what is told as remaining, so that a reply shows its place.
    answered: u64,
}

impl Scripted {
    fn new(seen: Seen) -> Self {
        Self { seen, answered: 0 }
    }

    fn note(&self, line: String) {
        self.seen.lock().push(line);
    }

    fn answer(&mut self, asked: &Asked) -> Result<Decision, LimitError> {
        let limits = text(&asked.limits);
        fail(&limits)?;
        self.answered += 1;
        Ok(Decision {
            remaining: self.answered,
            id: asked.id.clone(),
            ..decision(&limits, &asked.subject)
        })
    }
}

/// What the name of a limit has the actor say.
fn fail(limit: &str) -> Result<(), LimitError> {
    let actor = "rate-limit";
    match limit {
        "nothing" => Err(LimitError::Undeclared {
            name: limit.to_owned(),
        }),
        "wrong" => Err(LimitError::Invalid("`wrong` counts no time".to_owned())),
        "busy" => Err(LimitError::Actor(AskError::Overloaded { actor, limit: 1 })),
        "late" => Err(LimitError::Actor(AskError::TimedOut {
            actor,
            deadline_ms: 5,
        })),
        "away" => Err(LimitError::Store(StoreError::Away)),
        _ => Ok(()),
    }
}

/// Who is called `refused` is.
fn decision(name: &str, subject: &[u8]) -> Decision {
    let allowed = subject != b"refused";
    Decision {
        allowed,
        policy: Arc::new(Policy {
            name: name.to_owned(),
            limit: 16,
            window: None,
        }),
        remaining: 15,
        retry_after: (!allowed).then_some(Duration::from_micros(1_000_001)),
        reset_after: Duration::from_micros(1_999_500),
        id: None,
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Handler<Check> for Scripted {
    type Result = Vec<Result<Decision, LimitError>>;

    fn handle(&mut self, check: Check, _: &mut Self::Context) -> Self::Result {
        let asked = check.asked.iter().map(|asked| {
            let verb = match asked.ask {
                Ask::Take => "take",
                Ask::Peek => "peek",
            };
            format!(
                "{verb} {} {} {}",
                asked.cost,
                text(&asked.limits),
                text(&asked.subject)
            )
        });
        let line = asked.collect::<Vec<_>>().join(" + ");
        self.note(line);
        check.asked.iter().map(|asked| self.answer(asked)).collect()
    }
}

impl Handler<Fixed> for Scripted {
    type Result = Result<Decision, LimitError>;

    fn handle(&mut self, ask: Fixed, _: &mut Self::Context) -> Self::Result {
        self.note(format!(
            "fixed {} {} {:?}",
            text(&ask.subject),
            ask.limit,
            ask.window
        ));
        Ok(decision("RATE.FIXED", &ask.subject))
    }
}

impl Handler<Throttle> for Scripted {
    type Result = Result<Decision, LimitError>;

    fn handle(&mut self, ask: Throttle, _: &mut Self::Context) -> Self::Result {
        let Throttle {
            max_burst,
            count,
            period,
            quantity,
            ..
        } = ask;
        self.note(format!(
            "throttle {} {max_burst} {count} {period:?} {quantity}",
            text(&ask.key)
        ));
        Ok(decision("CL.THROTTLE", &ask.key))
    }
}

impl Handler<Reset> for Scripted {
    type Result = Result<bool, LimitError>;

    fn handle(&mut self, ask: Reset, _: &mut Self::Context) -> Self::Result {
        self.note(format!("reset {} {}", text(&ask.limit), text(&ask.subject)));
        fail(&text(&ask.limit)).map(|()| true)
    }
}

impl Handler<Refund> for Scripted {
    type Result = Result<u64, LimitError>;

    fn handle(&mut self, ask: Refund, _: &mut Self::Context) -> Self::Result {
        let (limit, subject) = (text(&ask.limit), text(&ask.subject));
        self.note(format!("refund {limit} {subject} {}", ask.amount));
        fail(&limit).map(|()| ask.amount)
    }
}

impl Handler<Release> for Scripted {
    type Result = Result<bool, LimitError>;

    fn handle(&mut self, ask: Release, _: &mut Self::Context) -> Self::Result {
        let (limit, subject) = (text(&ask.limit), text(&ask.subject));
        self.note(format!("release {limit} {subject} {}", text(&ask.id)));
        fail(&limit).map(|()| false)
    }
}
