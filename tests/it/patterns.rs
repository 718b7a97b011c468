//! Our reading of globs against Redis' own, over generated patterns and keys.

use std::collections::BTreeSet;

use cachewarden::keyspace::Pattern;

use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::raw;

const KEYS: usize = 600;
const PATTERNS: usize = 6000;
/// Few, so that patterns match; all that mean something in a glob, their neighbours in ASCII, and two bytes beyond it.
const LETTERS: [&str; 13] = [
    "a", "b", "c", "-", "]", "[", "^", "\\", "*", "?", ":", "Z", "é",
];

/// A text of `LETTERS`, of at most `most` of them; some stand more often.
fn text(random: &mut fastrand::Rng, most: usize) -> String {
    (0..random.usize(..=most))
        .map(|_| match random.u8(..3) {
            0 => LETTERS[random.usize(..3)],
            _ => LETTERS[random.usize(..LETTERS.len())],
        })
        .collect()
}

async fn scan(client: &mut Client, pattern: &str) -> BTreeSet<String> {
    let (mut found, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let words = ["SCAN", &cursor, "MATCH", pattern, "COUNT", "10000"];
        let Value::Array(page) = client.command(&words).await else {
            panic!("SCAN gave no array")
        };
        let Value::Array(keys) = &page[1] else {
            panic!("SCAN gave no keys")
        };
        found.extend(keys.iter().map(|key| key.text().to_owned()));
        cursor = page[0].text().to_owned();
        if cursor == "0" {
            return found;
        }
    }
}

#[tokio::test]
async fn patterns_match_exactly_the_keys_that_redis_matches() {
    let redis = redis();
    let mut client = raw(&redis).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let keys: BTreeSet<String> = (0..KEYS)
        .map(|_| format!("p:{}", text(&mut random, 6)))
        .collect();
    for key in &keys {
        client.command(&["SET", key, "x"]).await;
    }
    let (mut compared, mut refused, mut matched) = (0, 0, 0);
    for _ in 0..PATTERNS {
        let text = format!("p:{}", text(&mut random, 7));
        let Ok(pattern) = Pattern::parse(text.as_bytes()) else {
            refused += 1;
            continue;
        };
        let ours: BTreeSet<String> = keys
            .iter()
            .filter(|key| pattern.matches(key.as_bytes()))
            .cloned()
            .collect();
        let theirs = scan(&mut client, &text).await;
        assert_eq!(ours, theirs, "seed {seed}, pattern {text:?}");
        compared += 1;
        matched += usize::from(!ours.is_empty());
    }
    println!("{compared} patterns compared, {matched} matched something, {refused} refused");
    // Else the letters are wrong, and nothing was shown.
    assert!(compared > PATTERNS / 2 && matched > compared / 4);
}
