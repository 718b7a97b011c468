use std::{collections::HashMap, fs, time::Duration};

use super::{
    schema::{Key, Kind, ROOT},
    *,
};

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::read(text, Source::default(), None, &|name| {
        variables.get(name).map(|value| (*value).to_owned())
    })
}

const SMALL: &str = "[redis]\nurl = \"redis://localhost\"\n";

#[test]
fn what_is_not_given_has_its_default() {
    let config = Config::from_toml(
        "[redis]\nurl = \"redis://h\"\n[postgres]\nurl = \"postgres://u@h/d\"\n[caches.b]\nkey = \"b:{id:int}\"\n\
         query = \"SELECT :id;\"\nshape = \"scalar\"\nttl = \"10m\"\n[caches.a]\nkey = \"a:x\"\nquery = \"SELECT 1\"\n\
         shape = \"array\"\nttl = \"1h30m\"\n[namespaces.n]\nprefix = \"n:\"\nttl = \"5m\"\n",
    )
    .unwrap();
    let postgres = config.postgres.as_ref().unwrap();
    assert_eq!(
        (postgres.pool_size, postgres.statement_timeout),
        (8, Duration::from_secs(5))
    );
    assert_eq!(config.redis.timeout, Duration::from_millis(500));
    assert_eq!(
        config.resp.listen,
        [Listen::Tcp(([127, 0, 0, 1], 6380).into())]
    );
    assert_eq!(
        (config.resp.max_connections, config.resp.max_request),
        (10_000, 1 << 20)
    );
    assert!(config.resp.password.is_none() && config.resp.tls.is_none());
    assert_eq!(
        (config.log.format, config.log.level.as_str()),
        (LogFormat::Text, "info")
    );
    let names: Vec<&str> = config
        .caches
        .iter()
        .map(|cache| cache.name.as_str())
        .collect();
    assert_eq!(names, ["b", "a"], "in the order of the text");
    let cache = &config.caches[0];
    assert_eq!(
        (cache.shape, cache.ttl),
        (Shape::Scalar, Duration::from_secs(600))
    );
    assert_eq!(
        (cache.ttl_jitter, cache.missing_ttl),
        (0.1, Duration::from_secs(30))
    );
    assert_eq!(
        (cache.load_timeout, cache.max_loads, cache.max_value),
        (Duration::from_secs(2), 64, 1 << 20)
    );
    assert_eq!(cache.query.text, "SELECT :id");
    assert_eq!(
        cache.query.pieces,
        [
            Piece::Sql(0..7),
            Piece::Param {
                index: 0,
                at: 7..10
            }
        ]
    );
    assert_eq!(config.caches[1].ttl, Duration::from_secs(5400));
    assert_eq!(config.namespaces[0].load_timeout, Duration::from_secs(2));
    assert!(config.unserved.is_empty() && config.warnings.is_empty());
    assert_eq!(config.router().route(b"n:x").unwrap().space.0, 2);
}

#[test]
fn what_is_given_is_taken() {
    let text = "[redis]\nurl = \"rediss://h\"\ntimeout = \"1s\"\n[postgres]\nurl = \"postgres://u@h/d\"\npool_size = 2\n\
        statement_timeout = \"1m\"\n[resp]\nlisten = [\"0.0.0.0:0\", \"unix:/run/x.sock\", \"[::1]:7\"]\n\
        password = \"${PW}\"\ntls_cert_file = \"/c\"\ntls_key_file = \"/k\"\n[log]\nformat = \"json\"\n\
        level = \"warn,cachewarden::resp=trace\"\n[caches.a]\nkey = \"a:{n:int}\"\nquery = \"SELECT '$${x}', :n\"\n\
        shape = \"object\"\nttl = \"1s\"\nttl_jitter = \"0%\"\nmissing_ttl = \"0s\"\nparams = { n = { min = 1, max = 9 } }\n";
    let config = read_with(text, &[("PW", "a\"b")]).unwrap();
    assert_eq!(config.resp.password.as_ref().unwrap().expose(), "a\"b");
    assert_eq!(config.resp.listen[1], Listen::Unix("/run/x.sock".into()));
    assert_eq!(
        config.resp.tls,
        Some(TlsFiles {
            cert: "/c".into(),
            key: "/k".into()
        })
    );
    assert_eq!(config.log.format, LogFormat::Json);
    let cache = &config.caches[0];
    assert_eq!(cache.query.text, "SELECT '${x}', :n");
    assert_eq!((cache.ttl_jitter, cache.missing_ttl), (0.0, Duration::ZERO));
    assert!(config.router().route(b"a:9").is_ok() && config.router().route(b"a:10").is_err());
}

#[test]
fn a_secret_file_completes_an_address_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "p@ss:word\n").unwrap();
    let path = path.display();
    let text = format!(
        "[postgres]\nurl = \"postgres://shop@h/d\"\npassword_file = \"{path}\"\n[redis]\nurl = \"redis://h\"\n\
         password_file = \"{path}\"\n[resp]\npassword_file = \"{path}\"\n"
    );
    let config = Config::from_toml(&text).unwrap();
    let postgres = config.postgres.as_ref().unwrap();
    assert_eq!(postgres.url.expose(), "postgres://shop:p%40ss%3Aword@h/d");
    assert_eq!(postgres.shown_url(), "postgres://shop:***@h/d");
    assert_eq!(config.redis.url.expose(), "redis://:p%40ss%3Aword@h");
    assert_eq!(config.redis.shown_url(), "redis://:***@h");
    assert_eq!(config.resp.password.as_ref().unwrap().expose(), "p@ss:word");
    assert!(config.warnings.is_empty());
    assert!(!format!("{config:?}").contains("word\""), "{config:?}");
}

#[test]
fn a_watch_that_names_keys_of_no_cache_is_warned_of() {
    let of = |template: &str| {
        let text = format!(
            "[postgres]\nurl = \"postgres://h/d\"\n[redis]\nurl = \"redis://h\"\n[invalidation]\nprefixes = [\"legacy:\"]\n\
             [[invalidation.watch]]\ntable = \"t\"\ninvalidate = [\"{template}\"]\n\
             [caches.c]\nkey = \"courses:{{id:int}}\"\nquery = \"SELECT :id\"\nshape = \"scalar\"\nttl = \"1m\"\n"
        );
        Config::from_toml(&text).unwrap().warnings
    };
    for fine in [
        "courses:{id}",
        "courses:7",
        "courses:{a}{b}",
        "courses:*",
        "courses:x:*",
        "legacy:x",
    ] {
        assert_eq!(of(fine), [""; 0], "{fine}");
    }
    for odd in ["courses:count", "courses:007", "courses:{a}:{b}"] {
        let warnings = of(odd);
        assert!(
            warnings[0].contains(&format!("no cache has keys like `{odd}`")),
            "{warnings:?}"
        );
    }
}

#[test]
fn what_has_no_effect_as_the_rest_stands_is_warned_of() {
    let of = |cache: &str, more: &str| {
        let text = format!(
            "[postgres]\nurl = \"postgres://h/d\"\n[redis]\nurl = \"redis://h\"\n\
             [caches.c]\nkey = \"courses:{{id:int}}\"\nquery = \"SELECT :id\"\nshape = \"scalar\"\nttl = \"1m\"\n\
             {cache}\n{more}"
        );
        Config::from_toml(&text).unwrap().warnings
    };
    let watch = "[[invalidation.watch]]\ntable = \"t\"\ninvalidate = [\"courses:*\"]";
    for (cache, more) in [
        ("max_unproven = \"30s\"", watch),
        ("max_unproven = \"0s\"", ""),
        ("l1 = true", ""),
        ("l1 = false", "[l1]\ncapacity = \"0B\""),
    ] {
        assert_eq!(of(cache, more), [""; 0], "{cache} {more}");
    }
    for (cache, more, warning) in [
        (
            "max_unproven = \"30s\"",
            "",
            "10:16: `max_unproven` of cache `c` has no effect: no watch names keys under `courses:`",
        ),
        (
            "l1 = true",
            "[l1]\ncapacity = \"0B\"",
            "12:12: cache `c` says `l1 = true`, and a capacity of 0B keeps nothing in memory",
        ),
    ] {
        assert_eq!(of(cache, more), [warning]);
    }
}

#[test]
fn a_password_in_the_file_is_refused_where_others_can_read_it_and_warned_of_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cachewarden.toml");
    for secret in [
        "[redis]\nurl = \"redis://:hunter2@h\"\n",
        "[redis]\nurl = \"redis://h\"\n[resp]\npassword = \"hunter2\"\n",
        "[redis]\nurl = \"redis://h\"\n[http]\ntoken = \"hunter2\"\n",
    ] {
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let problems = Config::load(&path).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(
            problems.to_string().contains("mode 0644, want 0600"),
            "{problems}"
        );
        assert!(!problems.to_string().contains("hunter2"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.warnings.len(), 1);
        assert!(
            config.warnings[0].contains("_file`"),
            "{:?}",
            config.warnings
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

#[test]
fn parts_that_are_not_served_yet_are_checked_accepted_and_named() {
    let text = format!(
        "{SMALL}[postgres]\nurl = \"postgres://u@h/d\"\n[caches.a]\nkey = \"a:x\"\n\
         query = \"SELECT 1\"\nshape = \"array\"\nttl = \"1s\"\nalert_below = 0.8\n"
    );
    let unserved = Config::from_toml(&text).unwrap().unserved;
    assert_eq!(unserved, ["caches.a.alert_below"]);
}

#[test]
fn the_http_door_is_there_if_its_section_is() {
    let read = |more: &str| Config::from_toml(&format!("{SMALL}{more}")).unwrap().http;
    assert_eq!(read(""), None);
    let listen = |more: &str| read(&format!("[http]\n{more}")).unwrap().listen;
    assert_eq!(listen(""), Listen::Tcp("127.0.0.1:9680".parse().unwrap()));
    let socket = listen("listen = \"unix:/run/http.sock\"");
    assert_eq!(socket, Listen::Unix("/run/http.sock".into()));
    let open = "listen = \"0.0.0.0:9680\"\ntoken = \"${PATH}\"\nhosts = [\"Cache.Internal\"]";
    assert_eq!(listen(open), Listen::Tcp("0.0.0.0:9680".parse().unwrap()));
    let hosts = read(&format!("[http]\n{open}")).unwrap().hosts;
    assert_eq!(hosts, ["cache.internal"]);
}

#[test]
fn a_file_that_is_none_is_told_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    let told = |path: &Path| Config::load(path).unwrap_err().to_string();
    assert!(
        told(&path).contains("No such file or directory"),
        "{}",
        told(&path)
    );
    assert!(told(&path).contains("x.toml"));
    assert!(
        told(folder.path()).contains("Is a directory"),
        "{}",
        told(folder.path())
    );
    let big = "#".repeat(1 << 21);
    for (content, cause) in [
        (b"".as_slice(), "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"a = \"\xff\"", "not valid UTF-8 at byte 5"),
        (big.as_bytes(), "larger than 1048576 bytes"),
    ] {
        fs::write(&path, content).unwrap();
        assert!(told(&path).contains(cause), "{}", told(&path));
    }
    fs::write(&path, format!("\u{feff}{SMALL}")).unwrap();
    assert!(Config::load(&path).is_ok());
}

#[test]
fn a_thousand_caches_are_read_and_one_more_is_refused() {
    let caches = |count: usize| -> String {
        let cache = |n| {
            format!(
                "[caches.c{n}]\nkey = \"c{n}:x\"\nquery = \"SELECT 1\"\nshape = \"array\"\nttl = \"1s\"\n"
            )
        };
        (0..count).map(cache).collect()
    };
    let servers = format!("{SMALL}[postgres]\nurl = \"postgres://u@h/d\"\n");
    assert_eq!(
        Config::from_toml(&format!("{servers}{}", caches(1000)))
            .unwrap()
            .caches
            .len(),
        1000
    );
    let problems = Config::from_toml(&format!("{servers}{}", caches(1001))).unwrap_err();
    assert!(
        problems
            .to_string()
            .contains("more than 1000 sections under `caches`"),
        "{problems}"
    );
}

#[test]
fn a_report_points_into_a_query() {
    let text = "[redis]\nurl = \"redis://h\"\n[postgres]\nurl = \"postgres://u@h/d\"\n[caches.a]\nkey = \"a:x\"\n\
        query = \"\"\"\n  SELECT titel\n  FROM courses\"\"\"\nshape = \"array\"\nttl = \"1s\"\n";
    let config = Config::from_toml(text).unwrap();
    let cache = &config.caches[0];
    let offset = cache.query.text.find("titel").unwrap();
    let place = config
        .source
        .place_in(&cache.query.text, &cache.query_span, offset);
    assert_eq!(&text[place.clone()], "titel");
    let report = config.source.report(
        place,
        "column `titel` does not exist",
        "did you mean `title`?",
    );
    assert!(
        report.contains("configuration:8:10") && report.contains("^^^^^"),
        "{report}"
    );
    assert!(report.contains("help: did you mean `title`?"), "{report}");
    // Escapes part the text from the file: then the whole value is underlined.
    let escaped = text.replace(
        "\"\"\"\n  SELECT titel\n  FROM courses\"\"\"",
        r#""SELECT \"titel\"""#,
    );
    let config = Config::from_toml(&escaped).unwrap();
    let cache = &config.caches[0];
    let place = config
        .source
        .place_in(&cache.query.text, &cache.query_span, 8);
    assert_eq!(&escaped[place], r#""SELECT \"titel\"""#);
}

#[test]
fn a_path_given_by_hand_comes_first() {
    assert_eq!(Config::find(Some(Path::new("/x"))), Path::new("/x"));
}

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/cachewarden.toml");

#[test]
fn the_sample_is_a_configuration() {
    let config = Config::load(Path::new(SAMPLE)).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.unserved.is_empty() && config.warnings.is_empty());
    assert!(!config.caches.is_empty());
}

/// The sample holds `key = …` for what is active and `#key = …` for the rest; prose has `# `.
#[test]
fn the_sample_names_every_key_with_an_example_that_is_accepted() {
    let sample = fs::read_to_string(SAMPLE).unwrap();
    let mut section = String::new();
    let mut found = Vec::new();
    for line in sample
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
    {
        if let Some(header) = line.strip_prefix('[') {
            section = header
                .trim_start_matches('[')
                .split(']')
                .next()
                .unwrap()
                .to_owned();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with(' '))
        {
            found.push((format!("{section}.{}", name.trim()), value.trim()));
        }
    }
    let mut wanted = Vec::new();
    keys_of(ROOT, "", &mut wanted);
    for (pattern, _) in &wanted {
        let is_there = found.iter().any(|(path, _)| matches_pattern(path, pattern));
        assert!(is_there, "the sample lacks `{pattern}`");
    }
    for (path, value) in found {
        let key = wanted
            .iter()
            .find(|(pattern, _)| matches_pattern(&path, pattern));
        let (_, key) = key.unwrap_or_else(|| panic!("unknown in the sample: `{path}`"));
        check_example(key, &path, value);
    }
}

fn check_example(key: &Key, path: &str, value: &str) {
    let value = format!("x = {value}");
    let (tree, errors) = DeTable::parse_recoverable(&value);
    assert!(errors.is_empty(), "{path}: {value}");
    if let Some(text) = tree.get_ref()["x"].get_ref().as_str() {
        assert!(key.kind.read(text).is_ok(), "{path}: {value}");
    }
}

#[test]
fn every_example_in_a_help_is_accepted() {
    let mut keys = Vec::new();
    keys_of(ROOT, "", &mut keys);
    for (path, key) in keys {
        check_example(key, &path, key.example);
    }
}

/// Every key with a value of its own, by its path; `*` stands for a name of the user's choice.
fn keys_of(keys: &'static [Key], path: &str, out: &mut Vec<(String, &'static Key)>) {
    for key in keys {
        let place = if path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{path}.{}", key.name)
        };
        match key.kind {
            Kind::Table(keys) if key.name != "depends_on" => keys_of(keys, &place, out),
            Kind::Named(keys) => keys_of(keys, &format!("{place}.*"), out),
            Kind::Tables(keys) if key.name != "ttl_by_hits" => keys_of(keys, &place, out),
            _ => out.push((place, key)),
        }
    }
}

fn matches_pattern(path: &str, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) =
        (path.split('.').collect(), pattern.split('.').collect());
    path.len() == pattern.len()
        && path
            .iter()
            .zip(&pattern)
            .all(|(part, want)| *want == "*" || part == want)
}
