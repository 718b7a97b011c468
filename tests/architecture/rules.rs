//! The picture of the house as tables, and how the source is held against them.

use super::source::{Source, words};

/// A room, and the rooms below it that it may know.
pub type Room = (&'static str, &'static [&'static str]);

/// The rooms from the top to the bottom. Arrows point down only, so there are no circles.
#[rustfmt::skip] // one line a rule
pub const ROOMS: &[Room] = &[
    ("main", &["cli"]),
    ("cli", &["daemon", "audit", "supervisor", "repository", "telemetry", "config"]),
    ("typed", &["daemon"]),
    ("daemon", &["resp", "http", "audit", "warmup", "journal", "invalidation", "cache", "lock", "rate_limit", "plain", "supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("resp", &["audit", "warmup", "invalidation", "cache", "lock", "rate_limit", "plain", "password", "supervisor", "telemetry", "config", "keyspace"]),
    ("http", &["audit", "warmup", "invalidation", "cache", "lock", "rate_limit", "password", "supervisor", "config", "keyspace"]),
    ("audit", &["cache", "supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("warmup", &["cache", "lock", "supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("journal", &["cache", "lock", "supervisor", "store", "repository", "telemetry", "keyspace"]),
    ("invalidation", &["cache", "supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("lock", &["supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("rate_limit", &["supervisor", "store", "telemetry", "config", "keyspace"]),
    ("plain", &["supervisor", "store", "config", "keyspace"]),
    ("cache", &["supervisor", "store", "repository", "telemetry", "config", "keyspace"]),
    ("password", &["config"]),
    ("supervisor", &[]),
    ("store", &["config"]),
    ("repository", &["config", "keyspace"]),
    ("telemetry", &["config"]),
    ("config", &["keyspace"]),
    ("keyspace", &[]),
];

/// A name that only some places may use, or words that only some places may write; and why.
pub struct Rule {
    /// A crate, a path, or words as they are written.
    pub what: &'static str,
    /// Rooms or files below `src/`. Empty: nobody.
    pub only_in: &'static [&'static str],
    pub why: &'static str,
}

const fn only(what: &'static str, only_in: &'static [&'static str], why: &'static str) -> Rule {
    Rule { what, only_in, why }
}

/// Crates and names with a home.
#[rustfmt::skip] // one line a rule
pub const NAMES: &[Rule] = &[
    only("redis", &["store"], "Redis is spoken to in one room, which knows what its errors mean"),
    only("diesel", &["repository"], "SQL lives in one room"),
    only("diesel_async", &["repository"], "SQL lives in one room"),
    only("diesel_migrations", &["repository"], "SQL lives in one room"),
    only("tokio_postgres", &["repository"], "SQL lives in one room"),
    only("actix", &["supervisor", "cache/actor.rs", "cache/messages.rs", "cache/writing/actor.rs", "cache/writing/messages.rs", "invalidation/actor.rs", "invalidation/messages.rs", "audit/actor.rs", "audit/messages.rs", "journal/actor.rs", "lock/actor.rs", "lock/messages.rs", "rate_limit/actor.rs", "rate_limit/messages.rs", "plain/actor.rs", "plain/messages.rs", "warmup/actor.rs", "warmup/messages.rs"], "the thinking of a domain knows no actors, so that it can be tested and read without them"),
    only("actix_rt", &["supervisor", "daemon", "resp/listener.rs"], "threads are made by the daemon; the listener deals connections out to them"),
    only("actix_web", &["http"], "HTTP is spoken behind one door"),
    only("tokio", &["cli", "daemon", "http", "resp", "audit", "warmup", "journal", "invalidation", "cache", "lock", "rate_limit", "plain", "supervisor", "store", "repository"], "keys, configuration and counters do not wait for anything"),
    only("clap", &["main", "cli"], "the command line is read in one room"),
    only("indicatif", &["cli"], "only who typed the command looks at a terminal"),
    only("listenfd", &["cli"], "what the service manager passes on is taken by the binary, before there are threads"),
    only("sd_notify", &["cli"], "the service manager is told by the binary, not by the library"),
    only("signal_hook", &["cli"], "signals belong to the binary; a program with a daemon inside keeps its own"),
    only("signal_hook_tokio", &["cli"], "signals belong to the binary; a program with a daemon inside keeps its own"),
    only("toml", &["config"], "the file is read in one room"),
    only("prometheus_client", &["telemetry"], "every metric stands in one table"),
    only("tracing_subscriber", &["telemetry"], "where log lines go is decided once"),
    only("tracing_journald", &["telemetry"], "where log lines go is decided once"),
    only("crate::cache::CacheActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::cache::CacheParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::cache::Means", &["daemon"], "only who starts an actor knows what it works with"),
    only("crate::warmup::WarmupActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::warmup::WarmupParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::invalidation::InvalidationActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::invalidation::InvalidationParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::audit::AuditActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::audit::AuditParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::journal::JournalActor", &["daemon"], "only who starts an actor knows its type"),
    only("crate::journal::JournalParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::lock::LockActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::lock::LockParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::rate_limit::RateLimitActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::rate_limit::RateLimitParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::plain::PlainActor", &["daemon"], "who asks has a handle; only who starts an actor knows its type"),
    only("crate::plain::PlainParts", &["daemon"], "only who starts an actor knows what it is made of"),
    only("crate::supervisor::ChildSpec", &["daemon"], "one room says what is started"),
    only("crate::supervisor::Supervisor", &["daemon"], "one room says what is started"),
    only("actix::Supervisor", &[], "it does not survive a panic: the actor and its mailbox vanish silently; ours does"),
    only("actix::SyncArbiter", &[], "its queue has no bound, and a panic takes a worker away silently"),
    only("actix::SystemService", &[], "its registry keeps the address of a dead actor for ever"),
];

/// Words that are not written; `clippy.toml` knows more of them by their types.
#[rustfmt::skip] // one line a rule
pub const WORDS: &[Rule] = &[
    only(".do_send(", &[], "ignores the mailbox's bound and is silent when the actor is gone: `Handle::tell`"),
    only("ctx.wait(", &[], "stops the actor's mail, its pings and its shutdown included"),
    only("thread::sleep", &[], "holds a thread that serves many"),
    only("sql_query(", &[], "is never kept as a prepared statement"),
    only("\"KEYS\"", &[], "stops Redis for everybody while it walks through all keys"),
    only("\"FLUSHALL\"", &[], "the Redis belongs to others, too"),
    only("\"FLUSHDB\"", &[], "the Redis belongs to others, too"),
    only(".unwrap(", &[], "what can fail has an error; what cannot fail says why in its type"),
    only(".expect(", &[], "what can fail has an error; what cannot fail says why in its type"),
    only("panic!", &[], "an actor that panics drops the work of everybody who waits for it"),
    only("unreachable!", &[], "an actor that panics drops the work of everybody who waits for it"),
    only("todo!", &[], "what is not there yet is an issue, not a trap"),
    only("unimplemented!", &[], "what is not there yet is an issue, not a trap"),
    only("dbg!", &[], "results go to stdout, everything else to the log"),
    only("print!", &["cli"], "results go to stdout, everything else to the log"),
    only("println!", &["cli"], "results go to stdout, everything else to the log"),
    only("eprintln!", &["cli"], "results go to stdout, everything else to the log"),
    only("process::exit", &[], "runs no destructor: sockets and private servers would stay behind"),
];

/// Names that say nothing: what is in such a file has a better one.
pub const NO_NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "manager", "misc",
];

/// A file has one idea.
pub const MAX_LINES: usize = 500;

pub struct Arrow<'a> {
    pub from: &'a str,
    pub to: &'a str,
    /// `src/cache/engine.rs:12: crate::store::Store`
    pub at: String,
}

/// Every use of one room by another. What the front page exports belongs to the room it comes from.
pub fn arrows(sources: &[Source]) -> Vec<Arrow<'_>> {
    let front: Vec<&str> = sources
        .iter()
        .filter(|source| source.room() == "lib")
        .flat_map(|source| source.names.iter().map(|name| name.path.as_str()))
        .collect();
    let mut arrows = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "lib") {
        for name in &source.names {
            let Some(ours) = name.path.strip_prefix("crate::") else {
                continue;
            };
            let first = ours.split("::").next().unwrap_or(ours);
            let exported = |path: &&&str| path.rsplit("::").next() == Some(first);
            let to = match front.iter().find(exported) {
                Some(path) => path.split("::").next().unwrap_or(first),
                None => first,
            };
            if to != source.room() {
                let at = format!("src/{}:{}: {}", source.file, name.line, name.path);
                arrows.push(Arrow {
                    from: source.room(),
                    to,
                    at,
                });
            }
        }
    }
    arrows
}

pub fn forbidden_arrows(sources: &[Source]) -> Vec<String> {
    let allowed = |arrow: &Arrow<'_>| {
        let room = ROOMS.iter().find(|(room, _)| *room == arrow.from);
        room.is_some_and(|(_, below)| below.contains(&arrow.to))
    };
    let arrows = arrows(sources);
    let forbidden = arrows.iter().filter(|arrow| !allowed(arrow));
    forbidden
        .map(|arrow| format!("{}: `{}` may not know `{}`", arrow.at, arrow.from, arrow.to))
        .collect()
}

/// The lines on which a file uses a name, or anything below it.
pub fn uses(source: &Source, name: &str) -> Vec<usize> {
    let below = |path: &str| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let used = source.names.iter().filter(|used| below(&used.path));
    used.map(|used| used.line).collect()
}

pub fn strays(sources: &[Source]) -> Vec<String> {
    violations(sources, NAMES, uses)
}

pub fn banned_words(sources: &[Source]) -> Vec<String> {
    violations(sources, WORDS, |source, what| {
        source.lines_with(&words(what))
    })
}

fn violations(
    sources: &[Source],
    rules: &[Rule],
    find: impl Fn(&Source, &str) -> Vec<usize>,
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for rule in rules {
            let own = rule
                .what
                .starts_with(&format!("crate::{}::", source.room()));
            if own || rule.only_in.iter().any(|place| source.is_in(place)) {
                continue;
            }
            for line in find(source, rule.what) {
                found.push(format!(
                    "src/{}:{line}: `{}`: {}",
                    source.file, rule.what, rule.why
                ));
            }
        }
    }
    found
}
