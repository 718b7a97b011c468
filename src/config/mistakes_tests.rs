//! One row a mistake: what is underlined, what is said, and the mend.

use super::*;

/// Stands before every row that needs servers.
const SERVERS: &str =
    "[redis]\nurl = \"redis://localhost\"\n[postgres]\nurl = \"postgres://u@h/d\"\n";
/// Opens a cache to which a row adds keys.
const COURSE: &str = "[caches.course]\nkey = \"courses:{id:bigint}\"\nshape = \"object\"\nttl = \"10m\"\n\
                      query = \"SELECT 1 WHERE 1 = :id\"\n";

fn env(name: &str) -> Option<String> {
    (name == "SET").then(|| "value".to_owned())
}

fn read(text: &str) -> Result<Config, Problems> {
    Config::read(text, Source::default(), None, &env)
}

/// Checks that `marked`, in which `«»` stand around what is to be underlined, is refused for exactly
/// one fault.
fn check(before: &str, marked: &str, message: &str, help: &str) {
    let marked = format!("{before}{marked}");
    let start = marked
        .find('«')
        .unwrap_or_else(|| panic!("no mark in {marked}"));
    let end = marked.find('»').unwrap() - '«'.len_utf8();
    let text = marked.replace(['«', '»'], "");
    let problems = read(&text)
        .err()
        .unwrap_or_else(|| panic!("accepted: {text}"));
    assert_eq!(problems.len(), 1, "{problems}");
    let problem = problems.iter().next().unwrap();
    assert!(problem.message.contains(message), "{problems}");
    assert!(problem.help.contains(help), "{problems}");
    assert_eq!(problem.span, Some(start..end), "{problems}");
    // A control character in a message would break its line.
    assert!(!problem.message.contains(char::is_control), "{problems}");
    let (line, column) = problems.source().line_and_column(start);
    assert!(
        problems
            .to_string()
            .contains(&format!("configuration:{line}:{column}")),
        "{problems}"
    );
}

#[test]
fn each_mistake_is_told_with_its_place_and_the_mend() {
    let mut rows = 0;
    let mut before = "";
    for block in include_str!("mistakes.txt").split("\n\n").skip(1) {
        match block.trim() {
            "== with [redis] and [postgres]" => before = SERVERS,
            "== in a cache `course` with the key `courses:{id:bigint}`" => before = COURSE,
            "== alone" => before = "",
            row => {
                let [marked, message, help] = row.split("\n--> ").collect::<Vec<_>>()[..] else {
                    panic!("not a row: {row}");
                };
                let servers = if before == COURSE { SERVERS } else { "" };
                check(&format!("{servers}{before}"), marked, message, help);
                rows += 1;
            }
        }
    }
    assert!(rows > 100, "{rows} rows");
}

#[test]
fn an_address_that_is_refused_does_not_show_its_password() {
    let url = "[redis]\nurl = \"http://u:hunter2@h\"".to_owned();
    let open_quote = format!("{SERVERS}[resp]\npassword = \"hunter2\nx");
    let unknown_key = format!("{SERVERS}[resp]\nredis_password = \"hunter2\"");
    for text in [url, open_quote, unknown_key] {
        let problems = read(&text).unwrap_err();
        assert!(
            !format!("{problems} {problems:?}").contains("hunter2"),
            "{problems}"
        );
    }
}

#[test]
fn what_stands_in_anothers_way_is_told_with_both_places() {
    let array = "query = \"SELECT 1\"\nshape = \"array\"\nttl = \"1s\"";
    let texts = |key: &str| {
        format!("key = \"{key}\"\nquery = \"SELECT :x\"\nshape = \"array\"\nttl = \"1s\"")
    };
    let rows = [
        (
            format!("[caches.a]\n{}\n[caches.b]\n{}", texts("c:{x:int}"), texts("c:{x:text}")),
            "cache `a` and cache `b` could both match a key",
            "cache `a` is here",
        ),
        (
            format!("[caches.a]\nkey = \"c:x\"\n{array}\n[caches.b]\nkey = \"c:x\"\n{array}"),
            "could both match",
            "cache `a` is here",
        ),
        (
            format!("[caches.a]\nkey = \"c:x\"\n{array}\n[namespaces.n]\nprefix = \"c:y:\"\nttl = \"1s\""),
            "prefix `c:y:` of namespace `n` overlaps `c:` of cache `a`",
            "cache `a` is here",
        ),
        (
            "[namespaces.n]\nprefix = \"n:\"\nttl = \"1s\"\n[passthrough.p]\nprefix = \"n:p:\"\nttl = \"1s\"".to_owned(),
            "prefix `n:p:` of passthrough `p` overlaps `n:` of namespace `n`",
            "namespace `n` is here",
        ),
    ];
    for (text, message, also) in &rows {
        let problems = read(&format!("{SERVERS}{text}")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems}");
        let problem = problems.iter().next().unwrap();
        assert!(problem.message.contains(message), "{problems}");
        assert_eq!(problem.also[0].1, *also);
        assert_eq!(
            problems.to_string().matches("configuration:").count(),
            2,
            "{problems}"
        );
    }
    // What else is wrong with a cache does not keep its key from being compared.
    let faulty = rows[0].0.replacen("ttl = \"1s\"", "ttl = \"1\"", 1);
    let problems = read(&format!("{SERVERS}{faulty}")).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems}");
    let apart = "[namespaces.n]\nprefix = \"a:b:\"\nttl = \"1s\"\n[namespaces.m]\nprefix = \"a:c:\"\nttl = \"1s\"";
    assert!(read(&format!("{SERVERS}{apart}")).is_ok());
}

#[test]
fn broken_toml_is_told_with_its_line_and_hides_nothing_else() {
    let rows = [
        ("[log]\nlevel = info", 6),
        ("[log]\nlevel = \"info", 6),
        ("[log\nlevel = \"info\"", 5),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", 7),
        ("[log]\nlevel \"info\"", 6),
        ("[redis]\ntimeout = \"1s\"", 5),
        ("[caches.c]\nttl = 10m", 6),
    ];
    for (text, line) in rows {
        let problems = read(&format!("{SERVERS}{text}")).unwrap_err();
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| {
                problems
                    .source()
                    .line_and_column(problem.span.clone().unwrap().start)
                    .0
            })
            .collect();
        assert!(lines.contains(&line), "{problems}");
        assert!(problems.iter().all(|problem| !problem.help.is_empty()));
    }
    let problems = read(&format!(
        "{SERVERS}[log]\nlevel = info\nformat = \"xml\"\n[resp]\nmax_request = 3"
    ))
    .unwrap_err();
    let text = problems.to_string();
    assert!(
        text.contains("`xml`") && text.contains("`max_request`"),
        "{text}"
    );
}

#[test]
fn all_faults_of_a_file_are_told_at_once_in_their_order() {
    let problems = read(
        "[redis]\nurl = \"redis://h\"\ntimeout = \"5\"\n[log]\nlevle = 1\n[caches.a]\nkey = \"a:{x}\"\nttl = 5\n",
    )
    .unwrap_err();
    let told: Vec<&str> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "`timeout` is `5`: a duration needs a unit",
            "unknown key `levle`",
            "`caches.a` has no `query`",
            "`caches.a` has no `shape`",
            "a cache is declared, and no `[postgres]` to load it from",
            "parameter `x` has no type",
            "`ttl` can't be a number without unit or quotes",
        ]
    );
}
