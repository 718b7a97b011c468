//! The house as a test: who may know whom, what nobody may call, and what every file of a kind looks like.
//!
//! The tables below are the picture. A change that needs another arrow changes the table first, and is reviewed as that.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a source that cannot be read fails its test"
)]

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use rules::{
    MAX_LINES, NAMES, NO_NAMES, ROOMS, arrows, banned_words, forbidden_arrows, strays, uses,
};
use source::{Source, files, root, sources};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn a_room_knows_only_the_rooms_below_it() {
    nothing(&forbidden_arrows(&sources()));
}

#[test]
fn names_with_a_home_are_used_nowhere_else() {
    nothing(&strays(&sources()));
}

#[test]
fn banned_words_are_not_written() {
    nothing(&banned_words(&sources()));
}

#[test]
fn the_picture_shows_every_room_and_only_arrows_that_point_down_and_are_there() {
    let sources = sources();
    let rooms: BTreeSet<&str> = sources
        .iter()
        .map(Source::room)
        .filter(|room| *room != "lib")
        .collect();
    let shown: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms, shown, "rooms of src/, and rooms of the picture");
    let arrows = arrows(&sources);
    for (place, (room, below)) in ROOMS.iter().enumerate() {
        for target in *below {
            let stands_below = ROOMS[place + 1..].iter().any(|(lower, _)| lower == target);
            assert!(
                stands_below,
                "`{room}` may know `{target}`, which does not stand below it"
            );
            let is_there = arrows
                .iter()
                .any(|arrow| arrow.from == *room && arrow.to == *target);
            assert!(
                is_there,
                "`{room}` does not know `{target}` any more: take the arrow away"
            );
        }
    }
}

#[test]
fn every_exception_of_the_tables_is_needed() {
    let sources = sources();
    for rule in NAMES {
        for place in rule.only_in {
            let mut there = sources.iter().filter(|source| source.is_in(place));
            let used = there.any(|source| !uses(source, rule.what).is_empty());
            assert!(
                used,
                "`{}` is not used in `{place}` any more: take it away",
                rule.what
            );
        }
    }
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    for text in [
        "use crate::resp::Door;",
        "use crate::{config, resp::{self, Door}};",
        "use super::super::resp as door;",
        "use crate::{keyspace as keys, resp as door};",
        "fn f() -> usize { let x = crate::resp::most(); x }",
        "type Door = Option<super::super::resp::Door>;",
        "fn f(x: impl Into<<u8 as crate::resp::Opens>::Door>) {}",
        "fn f() { tokio::select! { _ = crate::resp::open() => {} } }",
        "#[derive(crate::resp::Derive)] struct S;",
        "use crate::Door;",
    ] {
        let parsed = [front_page(), Source::parse("cache/engine.rs", text)];
        assert!(!forbidden_arrows(&parsed).is_empty(), "{text}");
    }
}

#[test]
fn what_is_written_in_comments_texts_and_tests_is_no_arrow() {
    for text in [
        "// use crate::resp::Door;\n/// [`crate::resp::Door`]\nstruct S;",
        "const S: &str = \"crate::resp::Door\";",
        "#[cfg(test)]\nmod tests { use crate::resp::Door; }",
        "#[cfg(test)]\n#[allow(dead_code)]\nfn f(door: crate::resp::Door) {}",
        "use crate::{cache::resp, store};\nuse super::resp::Door;",
        "fn f() { self.resp::<u8>(); x.resp(); }",
    ] {
        let parsed = [front_page(), Source::parse("cache/engine.rs", text)];
        assert_eq!(forbidden_arrows(&parsed), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_stray_name_is_found_and_one_at_home_is_not() {
    for text in [
        "use redis;",
        "use redis::Client;",
        "use ::redis::{aio as io, Client};",
        "fn f() -> redis::RedisResult<()> { Ok(()) }",
        "fn f() { g(); ::redis::cmd(\"GET\"); }",
        "fn f() { return ::redis::cmd(\"GET\"); }",
        "use crate::cache::{self, CacheActor};",
        "#[derive(actix::Message)] struct M;",
    ] {
        let stray = Source::parse("resp/door.rs", text);
        assert!(!strays(&[stray]).is_empty(), "{text}");
    }
    let home = Source::parse("store/connection.rs", "use redis::Client;");
    assert_eq!(strays(&[home]), Vec::<String>::new());
    let own = Source::parse(
        "cli/demo/servers/mod.rs",
        "mod redis; pub use self::redis::Redis;",
    );
    assert_eq!(strays(&[own]), Vec::<String>::new());
}

#[test]
fn banned_words_are_found_whatever_stands_between_them() {
    for text in [
        "fn f() { address\n    .do_send(Ping); }",
        "fn f() { std::thread::sleep(second); }",
        "fn f() { ctx . wait ( future ); }",
        "fn f() { redis::cmd(\"KEYS\"); }",
        "fn f() { println!(\"{x}\"); }",
    ] {
        let source = Source::parse("cache/engine.rs", text);
        assert_eq!(banned_words(&[source]).len(), 1, "{text}");
    }
    let fine = "fn f() { x.unwrap_or(1); x.expect_err(2); ctx.waiting(); \"println!\"; }";
    let fine = Source::parse("cache/engine.rs", fine);
    assert_eq!(banned_words(&[fine]), Vec::<String>::new());
}

#[test]
fn files_of_the_source_stay_short_and_have_telling_names() {
    let mut found = Vec::new();
    for path in files(&root().join("src"), &[".rs", ".lua", ".sh"]) {
        let lines = read(&path).lines().count();
        if lines > MAX_LINES {
            found.push(format!(
                "{}: {lines} lines; {MAX_LINES} are the most",
                path.display()
            ));
        }
        let steps = path.with_extension("");
        if steps
            .iter()
            .any(|step| NO_NAMES.iter().any(|name| step == *name))
        {
            found.push(format!("{}: name it after what it holds", path.display()));
        }
    }
    nothing(&found);
}

#[test]
fn every_room_opens_with_what_it_keeps_true() {
    let mut found = Vec::new();
    for path in files(&root().join("src"), &["mod.rs", "lib.rs", "main.rs"]) {
        if !read(&path).starts_with("//! ") {
            found.push(format!(
                "{}: the first line says what the module keeps true",
                path.display()
            ));
        }
    }
    nothing(&found);
}

#[test]
fn every_script_says_its_purpose_keys_arguments_answer_and_why_it_is_one() {
    let scripts = files(&root().join("src"), &[".lua"]);
    assert!(!scripts.is_empty());
    for path in scripts {
        let text = read(&path);
        let header: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("-- "))
            .collect();
        let mut said = header.iter().skip(1);
        for part in ["KEYS ", "ARGV ", "Returns", "Why a script: "] {
            let is_there = said.any(|line| line.starts_with(part));
            assert!(
                is_there,
                "{}: the header lacks `-- {part}`, or has it in another order",
                path.display()
            );
        }
        let walks = text.to_lowercase().contains("call('keys'");
        assert!(!walks, "{}: KEYS stops Redis for everybody", path.display());
    }
}

#[test]
fn every_metric_is_named_after_the_daemon_and_explained_once() {
    let mut seen = BTreeSet::new();
    for metric in cachewarden::telemetry::METRICS {
        assert!(metric.name.starts_with("cachewarden_"), "{}", metric.name);
        assert!(!metric.help.is_empty(), "{}", metric.name);
        assert!(seen.insert(metric.name), "{} stands twice", metric.name);
    }
}

#[test]
fn every_dependency_is_used() {
    let manifest: toml::Table = read(&root().join("Cargo.toml"))
        .parse()
        .expect("a manifest");
    let sources = sources();
    for name in manifest["dependencies"].as_table().expect("a table").keys() {
        let name = name.replace('-', "_");
        let used = sources.iter().any(|source| !uses(source, &name).is_empty());
        assert!(used, "nothing uses `{name}`: take it out of Cargo.toml");
    }
}

#[test]
fn the_change_log_begins_with_this_version() {
    let text = read(&root().join("CHANGELOG.md"));
    let top = text.lines().find_map(|line| line.strip_prefix("## ["));
    let version = top
        .and_then(|top| top.split_once(']'))
        .map(|(version, _)| version);
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_guide_for_contributors_shows_every_room() {
    let text = read(&root().join("CONTRIBUTING.md"));
    for (room, _) in ROOMS {
        let shown = [format!("| `{room}/` |"), format!("| `{room}.rs` |")];
        assert!(
            shown.iter().any(|line| text.contains(line)),
            "CONTRIBUTING.md does not tell of `{room}`"
        );
    }
}

#[test]
fn every_file_the_guides_name_is_there() {
    let mut found = Vec::new();
    let guides = fs::read_dir(root()).expect("the repository's root");
    for path in guides.map(|entry| entry.expect("an entry").path()) {
        if path.extension().is_none_or(|end| end != "md") {
            continue;
        }
        for quoted in read(&path).split('`').skip(1).step_by(2) {
            let is_ours = ["src/", "tests/", "benches/", "systemd/", "fuzz/", "demo/"];
            let names_one = is_ours.iter().any(|top| quoted.starts_with(top))
                && !quoted.contains(['<', '*', ' ']);
            if names_one && !root().join(quoted).exists() {
                found.push(format!("{}: there is no `{quoted}`", path.display()));
            }
        }
        for link in read(&path).split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let is_ours = !target.is_empty() && !target.contains("://");
            if is_ours && !root().join(target).exists() {
                found.push(format!("{}: a link leads to `{target}`", path.display()));
            }
        }
    }
    nothing(&found);
}

/// A front page that exports one name of a room.
fn front_page() -> Source {
    Source::parse("lib.rs", "mod resp;\npub use resp::{Door};")
}

fn nothing(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
