//! Every key of the configuration, as data: its type, its range, an example, whether it is served.

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// What may stand right of the `=`, shown in every help about this key.
    pub example: &'static str,
    pub required: bool,
    /// False for what is checked, accepted and not acted upon yet.
    pub served: bool,
}

/// What a value may be. Durations are in milliseconds, sizes in bytes, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Texts,
    Flag,
    Count {
        min: i64,
        max: i64,
    },
    Duration {
        min: u64,
        max: u64,
        zero: bool,
    },
    Size {
        min: u64,
        max: u64,
    },
    /// `"10%"`, up to `max` percent.
    Percent {
        max: u32,
    },
    /// A number from 0 to 1.
    Ratio,
    Choice(&'static [&'static str]),
    /// A cron expression with seconds.
    Schedule,
    TimeZone,
    Table(&'static [Key]),
    Tables(&'static [Key]),
    /// Sections under names of the user's choice.
    Named(&'static [Key]),
    /// Names with texts, both of the user's choice.
    Columns,
}

const fn key(name: &'static str, kind: Kind, example: &'static str) -> Key {
    Key {
        name,
        kind,
        example,
        required: false,
        served: true,
    }
}

impl Key {
    const fn required(self) -> Key {
        Key {
            required: true,
            ..self
        }
    }

    const fn later(self) -> Key {
        Key {
            served: false,
            ..self
        }
    }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
/// The longest duration anywhere.
const YEAR: u64 = 365 * 24 * 60 * MINUTE;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const fn duration(max: u64) -> Kind {
    Kind::Duration {
        min: 1,
        max,
        zero: false,
    }
}

const fn duration_or_zero(max: u64) -> Kind {
    Kind::Duration {
        min: 1,
        max,
        zero: true,
    }
}

const fn count(min: i64, max: i64) -> Kind {
    Kind::Count { min, max }
}

const MAX_VALUE: Kind = Kind::Size {
    min: 1,
    max: 64 * MIB,
};
const ON_REDIS_ERROR: Kind = Kind::Choice(&["allow", "deny", "local"]);

pub(super) static ROOT: &[Key] = &[
    key("postgres", Kind::Table(POSTGRES), ""),
    key(
        "redis",
        Kind::Table(REDIS),
        "{ url = \"redis://localhost:6379\" }",
    )
    .required(),
    key("resp", Kind::Table(RESP), ""),
    key("http", Kind::Table(HTTP), ""),
    key("log", Kind::Table(LOG), ""),
    key("l1", Kind::Table(L1), ""),
    key("caches", Kind::Named(CACHE), ""),
    key("invalidation", Kind::Table(INVALIDATION), ""),
    key("namespaces", Kind::Named(NAMESPACE), ""),
    key("passthrough", Kind::Named(PASSTHROUGH), ""),
    key("locks", Kind::Table(LOCKS), ""),
    key("limits", Kind::Named(LIMIT), ""),
    key("limit_defaults", Kind::Table(LIMIT_DEFAULTS), ""),
    key("audit", Kind::Table(AUDIT), ""),
];

const POSTGRES: &[Key] = &[
    key("url", Kind::Text, r#""postgres://shop@localhost/shop""#),
    key(
        "url_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/postgres_url""#,
    ),
    key(
        "password_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/postgres_password""#,
    ),
    key("pool_size", count(1, 500), "8"),
    key("statement_timeout", duration(60 * MINUTE), r#""5s""#),
];

const REDIS: &[Key] = &[
    key("url", Kind::Text, r#""redis://localhost:6379""#),
    key(
        "url_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/redis_url""#,
    ),
    key(
        "password_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/redis_password""#,
    ),
    key("timeout", duration(30 * SECOND), r#""500ms""#),
    key("max_journal", count(1, 100_000_000), "1000000"),
    key("allow_volatile_journal", Kind::Flag, "false"),
];

const RESP: &[Key] = &[
    key("listen", Kind::Texts, r#"["127.0.0.1:6380"]"#),
    key("password", Kind::Text, r#""${CACHEWARDEN_PASSWORD}""#),
    key(
        "password_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/resp_password""#,
    ),
    key("max_connections", count(1, 1_000_000), "10000"),
    key(
        "max_request",
        Kind::Size {
            min: KIB,
            max: 64 * MIB,
        },
        r#""1MiB""#,
    ),
    key("threads", count(1, 256), "1"),
    key("tls_cert_file", Kind::Text, r#""/etc/cachewarden/tls.crt""#),
    key("tls_key_file", Kind::Text, r#""/etc/cachewarden/tls.key""#),
    key("allow_insecure", Kind::Flag, "true"),
];

const HTTP: &[Key] = &[
    key("listen", Kind::Text, r#""127.0.0.1:9680""#),
    key("token", Kind::Text, r#""${CACHEWARDEN_TOKEN}""#),
    key(
        "token_file",
        Kind::Text,
        r#""/run/credentials/cachewarden.service/http_token""#,
    ),
    key("hosts", Kind::Texts, r#"["cachewarden.internal"]"#),
];

const LOG: &[Key] = &[
    key(
        "format",
        Kind::Choice(&["text", "json", "journald"]),
        r#""text""#,
    ),
    key("level", Kind::Text, r#""info""#),
];

const L1: &[Key] = &[
    key(
        "capacity",
        Kind::Size {
            min: 0,
            max: 1024 * 1024 * MIB,
        },
        r#""64MiB""#,
    ),
    key("ttl", duration(YEAR), r#""30s""#),
];

const CACHE: &[Key] = &[
    key("key", Kind::Text, r#""courses:{id:bigint}""#).required(),
    key(
        "query",
        Kind::Text,
        r#""SELECT id, title FROM courses WHERE id = :id""#,
    )
    .required(),
    key(
        "shape",
        Kind::Choice(&["object", "array", "scalar"]),
        r#""object""#,
    )
    .required(),
    key("ttl", duration(YEAR), r#""10m""#).required(),
    key("ttl_jitter", Kind::Percent { max: 50 }, r#""10%""#),
    key("missing_ttl", duration_or_zero(YEAR), r#""30s""#),
    key("load_timeout", duration(MINUTE), r#""2s""#),
    key("max_loads", count(1, 100_000), "64"),
    key("max_value", MAX_VALUE, r#""1MiB""#),
    key("params", Kind::Named(PARAM), "{ id = { min = 1 } }"),
    key("stale_while_revalidate", duration_or_zero(YEAR), r#""1m""#),
    key("stale_if_error", duration_or_zero(YEAR), r#""1h""#),
    key("stale_if_error_after_invalidation", Kind::Flag, "false"),
    key("max_unproven", duration_or_zero(YEAR), r#""0s""#),
    key("soft_timeout", duration(MINUTE), r#""100ms""#),
    key("early_refresh", Kind::Flag, "true"),
    key("admit_after", count(1, 1_000_000), "1"),
    key(
        "ttl_by_hits",
        Kind::Tables(TTL_BY_HITS),
        r#"[{ hits = 100, ttl = "20m" }]"#,
    ),
    key("l1", Kind::Flag, "true"),
    key("index", Kind::Flag, "false"),
    key(
        "depends_on",
        Kind::Table(DEPENDS_ON),
        r#"{ table = "courses", on = { id = "id" } }"#,
    ),
    key("alert_below", Kind::Ratio, "0.8").later(),
    key("warm", Kind::Table(WARM), r#"{ every = "10m" }"#),
    key("write", Kind::Table(WRITE), ""),
];

const PARAM: &[Key] = &[
    key("min", count(i64::MIN, i64::MAX), "1"),
    key("max", count(i64::MIN, i64::MAX), "100"),
];

const TTL_BY_HITS: &[Key] = &[
    key("hits", count(1, 1_000_000), "100").required(),
    key("ttl", duration(YEAR), r#""20m""#).required(),
];

const DEPENDS_ON: &[Key] = &[
    key("table", Kind::Text, r#""courses""#).required(),
    key("on", Kind::Columns, r#"{ id = "id" }"#),
];

const WARM: &[Key] = &[
    key(
        "keys",
        Kind::Text,
        r#""SELECT id FROM courses WHERE published""#,
    ),
    key("schedule", Kind::Schedule, r#""0 */10 * * * *""#),
    key(
        "every",
        Kind::Duration {
            min: SECOND,
            max: YEAR,
            zero: false,
        },
        r#""10m""#,
    ),
    key("time_zone", Kind::TimeZone, r#""UTC""#),
    key("on_start", Kind::Flag, "true"),
    key("after_invalidation", Kind::Flag, "true"),
    key("rate", count(1, 10_000_000), "50000"),
    key("hot", count(0, 10_000), "1000"),
    key("ready_after_warm", Kind::Flag, "false"),
];

const WRITE: &[Key] = &[
    key("mode", Kind::Choice(&["through", "behind"]), r#""through""#),
    key(
        "save",
        Kind::Text,
        r#""UPDATE courses SET title = :value->>'title' WHERE id = :id""#,
    ),
    key(
        "delete",
        Kind::Text,
        r#""DELETE FROM courses WHERE id = :id""#,
    ),
    key(
        "after_save",
        Kind::Choice(&["invalidate", "update"]),
        r#""invalidate""#,
    ),
    key("also_invalidate", Kind::Texts, r#"["courses:list:*"]"#),
];

const INVALIDATION: &[Key] = &[
    key("channel", Kind::Text, r#""cache:invalidate""#),
    key("ack_channel", Kind::Text, r#""cache:invalidated""#),
    key("prefixes", Kind::Texts, r#"["legacy:"]"#),
    key(
        "on_deaf",
        Kind::Choice(&["ignore", "invalidate"]),
        r#""ignore""#,
    ),
    key("replay_window", duration(YEAR), r#""60s""#),
    key("poll", duration(MINUTE), r#""20ms""#),
    key("notify", Kind::Flag, "false"),
    key("max_keys", count(1, 1_000_000), "1000"),
    key("watch", Kind::Tables(WATCH), ""),
    key("event", Kind::Tables(EVENT), ""),
];

const WATCH: &[Key] = &[
    key("table", Kind::Text, r#""public.courses""#).required(),
    key(
        "invalidate",
        Kind::Texts,
        r#"["courses:{id}", "courses:list:*"]"#,
    )
    .required(),
];

const EVENT: &[Key] = &[
    key("channel", Kind::Text, r#""events""#).required(),
    key("event", Kind::Text, r#""order.updated""#).required(),
    key("invalidate", Kind::Texts, r#"["order:single:{orderId}"]"#).required(),
];

const NAMESPACE: &[Key] = &[
    key("prefix", Kind::Text, r#""calc:""#).required(),
    key("ttl", duration(YEAR), r#""5m""#).required(),
    key("load_timeout", duration(MINUTE), r#""2s""#),
    key("max_loads", count(1, 100_000), "64"),
    key("max_value", MAX_VALUE, r#""1MiB""#),
    key("index", Kind::Flag, "false"),
];

const PASSTHROUGH: &[Key] = &[
    key("prefix", Kind::Text, r#""sess:""#).required(),
    key("ttl", duration(YEAR), r#""7d""#).required(),
];

const LOCKS: &[Key] = &[
    key("default_ttl", duration(YEAR), r#""10s""#),
    key("max_ttl", duration(YEAR), r#""10m""#),
];

const LIMIT: &[Key] = &[
    key(
        "algorithm",
        Kind::Choice(&[
            "fixed_window",
            "sliding_window",
            "token_bucket",
            "concurrency",
        ]),
        r#""sliding_window""#,
    )
    .required(),
    key("limit", count(1, 1_000_000_000), "100").required(),
    key("window", duration(YEAR), r#""1m""#),
    key("on_redis_error", ON_REDIS_ERROR, r#""allow""#),
    key("shadow", Kind::Flag, "false"),
    key("burst", count(1, 1_000_000_000), "100"),
    key("lease", duration(YEAR), r#""30s""#),
];

const LIMIT_DEFAULTS: &[Key] = &[
    key("on_redis_error", ON_REDIS_ERROR, r#""allow""#),
    key("shadow", Kind::Flag, "false"),
];

const AUDIT: &[Key] = &[key("rate", count(0, 100_000), "5")];
