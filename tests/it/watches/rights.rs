//! A trigger acts with the rights of who installed it: nothing that a writer or a table's owner made may run within.

use super::CACHES;
use crate::support::daemon::{cachewarden, config, said};
use crate::support::watched::{Watched, queued};

#[tokio::test]
async fn who_owns_a_watched_table_cannot_act_with_the_rights_of_who_installed_its_triggers() {
    let world = Watched::unmigrated("CREATE TABLE loot (taken_by text)", "").await;
    let thief = format!("thief_{}", world.database.name());
    world
        .execute(&format!(
            "CREATE ROLE {thief}; CREATE SCHEMA {thief} AUTHORIZATION {thief}; SET ROLE {thief};
             CREATE TABLE {thief}.t (id text); RESET ROLE"
        ))
        .await;
    let watch = format!(
        "[namespaces.k]\nprefix = \"k:\"\nttl = \"1m\"\n\
         [[invalidation.watch]]\ntable = \"{thief}.t\"\ninvalidate = [\"k:{{id}}\"]\n"
    );
    let world = Watched::unmigrated_in(world.database, "", &watch).await;
    world.migrate().await;
    world
        .execute(&format!(
            "SET ROLE {thief}; SET search_path = {thief}; CREATE TYPE trap AS (x text);
             CREATE FUNCTION spring(trap) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.loot VALUES (current_user); RETURN 'x'; END $$;
             CREATE CAST (trap AS text) WITH FUNCTION spring(trap);
             ALTER TABLE t ALTER id TYPE trap USING row(id)::trap;
             INSERT INTO t VALUES (row('a')); RESET ROLE"
        ))
        .await;
    assert_eq!(world.ask("SELECT count(*) FROM public.loot").await, "0");
    assert_eq!(world.take().await.len(), 1);
    world
        .execute(&format!("DROP OWNED BY {thief} CASCADE; DROP ROLE {thief}"))
        .await;
}

/// Another function, operator and type for each that ours name, in a schema that comes before Postgres' own.
const TRAPS: &str = r#"
CREATE SCHEMA traps;
CREATE DOMAIN traps.text AS pg_catalog.date;
CREATE DOMAIN traps.regtype AS pg_catalog.date;
DO $$
DECLARE
    found record;
    trap text := 'LANGUAGE plpgsql AS ''BEGIN RAISE EXCEPTION ''''trapped''''; END''';
BEGIN
    FOR found IN
        SELECT p.proname, p.proargtypes::regtype[] AS args, p.provariadic <> 0 AS is_variadic
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN (
            SELECT (regexp_matches(prosrc, '[a-z_0-9]+', 'g'))[1] FROM pg_proc
            WHERE pronamespace = 'cachewarden'::regnamespace)
    LOOP
        -- A function of SQL cannot take anything at all, but any one type.
        EXECUTE format('CREATE FUNCTION traps.%I(%s) RETURNS pg_catalog.text %s', found.proname, (
            SELECT string_agg(CASE
                WHEN arg <> '"any"'::regtype THEN replace(arg::text, 'nonarray', 'element')
                WHEN found.is_variadic AND n = cardinality(found.args) THEN 'VARIADIC anyarray'
                ELSE 'anyelement' END, ', ' ORDER BY n)
            FROM unnest(found.args) WITH ORDINALITY AS a (arg, n)), trap);
    END LOOP;
    FOR found IN
        SELECT DISTINCT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r FROM pg_operator o
        WHERE o.oprleft <> 0 AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '~', '~~', '||')
          AND (o.oprleft::regtype::text IN ('text', 'name', 'integer', 'bigint', 'numeric', 'oid', 'boolean')
               OR o.oprright::regtype::text = 'text' OR o.oprname = '||')
    LOOP
        EXECUTE format('CREATE FUNCTION traps.%I(%s, %s) RETURNS boolean %s',
            'op' || md5(found::text), found.l, found.r, trap);
        EXECUTE format('CREATE OPERATOR traps.%s (FUNCTION = traps.%I, LEFTARG = %s, RIGHTARG = %s)',
            found.oprname, 'op' || md5(found::text), found.l, found.r);
    END LOOP;
END $$;
"#;

#[tokio::test]
async fn a_writer_cannot_put_functions_of_its_own_in_the_place_of_those_that_a_trigger_calls() {
    let sql = "CREATE TABLE t (i int, b bigint, x text, u uuid, f bool, n numeric, c char(8), ut text, s text)";
    let mut caches = CACHES.to_owned();
    for kind in ["int", "bigint", "text", "uuid", "bool", "date"] {
        caches += &format!(
            "[caches.c_{kind}]\nkey = \"{kind}:{{p:{kind}}}\"\nquery = \"SELECT :p\"\nshape = \"scalar\"\nttl = \"1m\"\n"
        );
    }
    let watch = r#"
[[invalidation.watch]]
table = "t"
invalidate = ["int:{i}", "bigint:{b}", "int:{b}", "text:{x}", "uuid:{u}", "bool:{f}", "bigint:{n}", "text:{c}", "uuid:{ut}", "bool:{s}", "date:{s}", "similar:{x}:*", "similar:all:1"]
"#;
    let world = Watched::start(sql, &format!("{caches}{watch}")).await;
    world.execute(TRAPS).await;
    let trapped =
        |sql: &str| format!("SET search_path = traps, pg_catalog; {sql}; RESET search_path");
    // The traps work.
    let sprung = world.client.batch_execute(&trapped("SELECT 1 = 1")).await;
    assert!(format!("{sprung:?}").contains("trapped"), "{sprung:?}");
    world.execute("RESET search_path").await;

    let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let rows = |values: &[i32]| {
        let rows = values
            .iter()
            .map(|n| format!("({n}, {n}, 'a*b', '{id}', true, 7.0, 'abc', '{{{id}}}', 'yes')"));
        rows.collect::<Vec<_>>().join(", ")
    };
    let told = |numbers: &[&str]| {
        let mut keys: Vec<String> = [
            "bigint:7",
            "bool:true",
            "similar:all:1",
            "text:a*b",
            "text:abc",
        ]
        .map(str::to_owned)
        .into();
        keys.push(format!("uuid:{id}"));
        for number in numbers {
            keys.extend([format!("bigint:{number}"), format!("int:{number}")]);
        }
        keys.sort();
        keys.dedup();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        queued(&keys, &[r"similar:a\*b:*"])
    };
    let insert = trapped(&format!("INSERT INTO public.t VALUES {}", rows(&[4])));
    assert_eq!(world.queues(&insert).await, [told(&["4"])]);
    let update = trapped("UPDATE public.t SET i = 5, b = 5");
    assert_eq!(world.queues(&update).await, [told(&["4", "5"])]);
    // So many rows that repetitions are looked for.
    let many: Vec<i32> = (100..112).collect();
    let numbers: Vec<String> = many.iter().map(i32::to_string).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let insert = trapped(&format!("INSERT INTO public.t VALUES {}", rows(&many)));
    assert_eq!(world.queues(&insert).await, [told(&numbers)]);
    world.execute("DELETE FROM t WHERE i > 5").await;
    world.take().await;
    assert_eq!(
        world.queues(&trapped("DELETE FROM public.t")).await,
        [told(&["5"])]
    );
}

#[tokio::test]
async fn a_column_that_has_another_type_by_now_is_spelled_as_ever() {
    let sql = "CREATE TABLE t (id int)";
    let caches = "[caches.a]\nkey = \"a:{id:int}\"\nquery = \"SELECT :id\"\nshape = \"scalar\"\nttl = \"1m\"\n\
                  depends_on = { table = \"t\", on = { id = \"id\" } }\n";
    let world = Watched::start(sql, caches).await;
    let insert = |value: &str| format!("INSERT INTO t VALUES ({value})");
    assert_eq!(world.queues(&insert("42")).await, [queued(&["a:42"], &[])]);
    for (kind, value) in [("bigint", "42"), ("numeric", "42.00"), ("text", "'+42'")] {
        let alter = format!("ALTER TABLE t ALTER id TYPE {kind}");
        world.execute(&alter).await;
        let got = world.queues(&insert(value)).await;
        assert_eq!(got, [queued(&["a:42"], &[])], "{kind}");
    }
    // What no key can be is none, and nothing to invalidate.
    assert_eq!(world.queues(&insert("'4294967296'")).await, []);
}

const NAMED: &str = "[namespaces.k]\nprefix = \"k:\"\nttl = \"1m\"\n\
    [[invalidation.watch]]\ntable = \"public.t\"\ninvalidate = [\"k:{id}\"]\n";

#[tokio::test]
async fn our_own_tables_and_those_of_postgres_are_not_watched() {
    let world = Watched::start("CREATE TABLE t (id int)", NAMED).await;
    for (table, why) in [
        // Each row that it queues would queue another.
        (
            "cachewarden.outbox",
            "cachewarden.outbox is cachewarden's own",
        ),
        ("pg_class", "pg_catalog.pg_class is Postgres' own"),
    ] {
        let watch =
            format!("[[invalidation.watch]]\ntable = \"{table}\"\ninvalidate = [\"k:all\"]\n");
        let text = config(
            world.database.url(),
            "redis://127.0.0.1:1",
            &format!("{NAMED}{watch}"),
        );
        for args in [&["migrate"][..], &["check", "--connect"]] {
            let (code, _, stderr) = said(&cachewarden(&text, args).await);
            assert_eq!(code, Some(78), "{stderr}");
            assert!(stderr.contains(why), "{stderr}");
        }
    }
    let insert = "INSERT INTO t VALUES (1)";
    assert_eq!(world.queues(insert).await, [queued(&["k:1"], &[])]);
}

#[tokio::test]
async fn a_role_that_may_not_empty_the_queue_is_told_what_it_lacks() {
    let world = Watched::start("CREATE TABLE t (id int)", NAMED).await;
    let role = format!("reader_{}", world.database.name());
    world
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role}"
        ))
        .await;
    let url = world
        .database
        .url()
        .replace("postgres@", &format!("{role}@"));
    assert_ne!(url, world.database.url());
    let text = config(&url, "redis://127.0.0.1:1", NAMED);
    let all = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cachewarden TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA cachewarden TO {role};"
    );
    let some = "GRANT SELECT ON ALL TABLES IN SCHEMA cachewarden TO";
    for grant in ["GRANT USAGE ON SCHEMA cachewarden TO", some]
        .map(|grant| format!("{grant} {role}"))
        .iter()
        .chain([&all])
    {
        let (code, _, stderr) = said(&cachewarden(&text, &["check", "--connect"]).await);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(&all), "{stderr}");
        world.execute(grant).await;
    }
    let (code, _, stderr) = said(&cachewarden(&text, &["check", "--connect"]).await);
    assert!(
        !stderr.contains("may not read and write"),
        "{code:?} {stderr}"
    );
    world
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}
