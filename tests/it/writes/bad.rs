//! What cannot be saved is refused with the reason, and changes nothing.

use super::super::support::resp::Value;
use super::super::support::world::{figure, get};
use super::{CACHES, Shop, ok, refusal, title};

#[tokio::test]
async fn what_postgres_refuses_is_told_in_its_words_with_its_code_and_is_not_invalidated() {
    let tables = "
        CREATE TABLE teachers (id int PRIMARY KEY);
        ALTER TABLE courses ADD FOREIGN KEY (teacher) REFERENCES teachers DEFERRABLE INITIALLY DEFERRED;
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION E'not\n%', new.title USING ERRCODE = 'P0042'; END $$;
        CREATE TRIGGER no BEFORE UPDATE ON courses FOR EACH ROW WHEN (new.title = 'no') EXECUTE FUNCTION no();";
    let caches = CACHES.replace(
        "slug = coalesce(:value->>'slug', slug)",
        "slug = coalesce(:value->>'slug', slug), teacher = (:value->>'teacher')::int",
    );
    let shop = Shop::open_with(tables, &caches).await;
    let mut client = shop.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    for (value, words, code) in [
        (
            "{\"title\": \"x\", \"slug\": \"slug-2\"}",
            "duplicate key value violates unique constraint \"courses_slug_key\"",
            "23505",
        ),
        ("{\"title\": \"\"}", "violates check constraint", "23514"),
        ("{}", "null value in column \"title\"", "23502"),
        (
            "{\"title\": \"x\", \"teacher\": 7}",
            "violates foreign key constraint",
            "23503",
        ),
        (
            "{\"title\": \"x\", \"teacher\": \"y\"}",
            "invalid input syntax for type integer",
            "22P02",
        ),
        (
            "{\"title\": \"x\\u0000\"}",
            "unsupported Unicode escape sequence",
            "22P05",
        ),
        ("{\"title\": \"no\"}", "not no", "P0042"),
    ] {
        let error = refusal(&mut client, &["SET", "courses:1", value]).await;
        let head = "ERR postgres refused the write of 'courses:1': ";
        assert!(error.starts_with(head) && error.contains(words), "{error}");
        assert!(error.contains(&format!("(SQLSTATE {code})")), "{error}");
    }
    assert_eq!(shop.title(1).await, "old");
    assert_eq!(shop.cached("courses:1").await, Value::bulk("\"old\""));
    assert_eq!(shop.watched.rows().await, 0);
    assert_eq!(figure(&mut client, "postgres_writes_failed", "").await, 7);
    // Nothing of it clings to the connection.
    assert_eq!(
        client.command(&["SET", "courses:1", &title("new")]).await,
        ok()
    );
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_save_that_touches_no_row_is_an_error_and_queues_nothing() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    assert_eq!(client.command(&["GET", "courses:999"]).await, Value::Nil);
    let error = refusal(&mut client, &["SET", "courses:999", &title("x")]).await;
    assert!(
        error.starts_with("ERR no row was saved for 'courses:999'"),
        "{error}"
    );
    assert_ne!(shop.cached("courses:999").await, Value::Nil);
    let told = "SELECT (SELECT count(*) FROM cachewarden.outbox) + (SELECT count(*) FROM cachewarden.applied WHERE 'courses:999' = ANY (keys))";
    assert_eq!(shop.watched.ask(told).await, "0");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_json_or_too_large_is_not_sent_to_postgres() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    for value in [
        "",
        "new",
        "{\"title\": \"x\"",
        "{\"title\": \"x\"} 1",
        "{'title': 1}",
        "NaN",
    ] {
        let error = refusal(&mut client, &["SET", "courses:1", value]).await;
        let head = "ERR the value for 'courses:1' is no JSON: ";
        assert!(error.starts_with(head), "{value}: {error}");
    }
    let frame = b"*3\r\n$3\r\nSET\r\n$9\r\ncourses:1\r\n$4\r\n\"\xff\xfe\"\r\n";
    client.send(frame).await.unwrap();
    let error = client.read().await.unwrap();
    assert!(error.error().contains("is no JSON"), "{error:?}");
    let large = title(&"x".repeat(1024));
    let error = refusal(&mut client, &["SET", "courses:1", &large]).await;
    assert!(
        error.starts_with("ERR ") && error.contains("larger than max_value, 1024"),
        "{error}"
    );
    assert_eq!(figure(&mut client, "postgres_writes_failed", "").await, 0);
    assert_eq!(shop.title(1).await, "old");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn keys_that_lead_nowhere_and_caches_that_declare_no_write_are_told_apart() {
    let caches = format!(
        "{CACHES}\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"1m\"
        [caches.gone]\nkey = \"gone:{{id:int}}\"\nquery = \"SELECT :id\"\nshape = \"scalar\"\nttl = \"1m\"
        write.delete = \"DELETE FROM courses WHERE id = :id\""
    );
    let shop = Shop::open_with("", &caches).await;
    let mut client = shop.client().await;
    let words: &[(&[&str], &str)] = &[
        (
            &["SET", "courses:count", "1"],
            "READONLY cache 'count' declares no write",
        ),
        (
            &["SET", "gone:1", "1"],
            "READONLY cache 'gone' declares no write.save",
        ),
        (&["SET", "calc:1", "1"], "READONLY namespace 'calc'"),
        (&["SET", "courses:007", "1"], "BADKEY "),
        (
            &["SET", "nowhere:1", "1"],
            "ERR no cache is declared for key 'nowhere:1'",
        ),
        (
            &["SET", "courses:1", "1", "EX", "10"],
            "ERR SET takes a key and a value",
        ),
        (&["SET", "courses:1"], "ERR wrong number of arguments"),
        (
            &["MSET", "courses:1", "1", "courses:2"],
            "ERR wrong number of arguments for 'mset'",
        ),
        (
            &[
                "MSET",
                "courses:1",
                "{\"title\": \"x\"}",
                "courses:count",
                "2",
            ],
            "READONLY cache 'count'",
        ),
        (&["DEL", "courses:1", "courses:x"], "BADKEY "),
    ];
    for (words, head) in words {
        let error = refusal(&mut client, words).await;
        assert!(error.starts_with(head), "{words:?}: {error}");
    }
    assert_eq!(shop.title(1).await, "old");
    shop.daemon.stop().await;
}
