//! `cachewarden migrate --uninstall` takes nothing away that acknowledged writes still need.

use super::{CACHES, World};
use crate::support::daemon::{cachewarden, said};
use crate::support::resp::Value;

const UNINSTALL: [&str; 2] = ["migrate", "--uninstall"];
const DRY_RUN: [&str; 3] = ["migrate", "--uninstall", "--dry-run"];

/// The same caches, saved at once.
fn through() -> String {
    CACHES.replace("mode = \"behind\"\n", "")
}

async fn run(world: &World, caches: &str, args: &[&str]) -> (Option<i32>, String, String) {
    said(&cachewarden(&world.config_of(caches), args).await)
}

async fn is_installed(world: &World) -> bool {
    let table = "SELECT to_regclass('cachewarden.dead_writes')";
    world.watched.ask(table).await != "NULL"
}

#[tokio::test]
async fn nothing_is_taken_away_while_acknowledged_writes_wait_in_the_journal() {
    let world = World::start().await;
    let daemon = world.spawned().await;
    let mut client = daemon.client().await;
    let session = world.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";
    session.batch_execute(lock).await.unwrap();
    for key in ["accounts:1", "accounts:2"] {
        let answer = client.command(&["SET", key, "7"]).await;
        assert_eq!(answer, Value::Simple("OK".into()));
    }
    drop(daemon);
    session.batch_execute("COMMIT").await.unwrap();
    // However its caches are declared by now.
    for caches in [CACHES, &through()] {
        for args in [UNINSTALL.as_slice(), &DRY_RUN] {
            let (code, stdout, stderr) = run(&world, caches, args).await;
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
            let told = "redis holds 2 acknowledged writes that are not in postgres yet";
            for part in [
                told,
                "hint: ",
                "`cachewarden run`",
                "cachewarden_journal_rows",
            ] {
                assert!(stderr.contains(part), "{part} is not in {stderr}");
            }
        }
    }
    assert!(is_installed(&world).await);
    let daemon = world.daemon().await;
    world.until_saved().await;
    daemon.stop().await;
    assert_eq!(world.row(2).await, ("7".into(), "1".into()));
    let (code, stdout, stderr) = run(&world, CACHES, &UNINSTALL).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("done: take away"), "{stdout}");
    assert!(!is_installed(&world).await);
}

#[tokio::test]
async fn writes_that_could_not_be_saved_are_not_taken_away_with_their_table() {
    let world = World::start().await;
    let dead = "INSERT INTO cachewarden.dead_writes (id, cache, key, op, value, error, attempts)
        SELECT gen_random_uuid(), 'account', 'accounts:' || n, 'set', '1', 'too much', 5 FROM generate_series(1, 3) n";
    world.watched.execute(dead).await;
    for args in [UNINSTALL.as_slice(), &DRY_RUN] {
        let (code, stdout, stderr) = run(&world, CACHES, args).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        let told = "cachewarden.dead_writes holds 3 acknowledged writes that were never saved";
        for part in [told, "hint: "] {
            assert!(stderr.contains(part), "{part} is not in {stderr}");
        }
    }
    assert!(is_installed(&world).await);
    world
        .watched
        .execute("DELETE FROM cachewarden.dead_writes")
        .await;
    let (code, stdout, stderr) = run(&world, CACHES, &DRY_RUN).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("DROP SCHEMA cachewarden;"), "{stdout}");
    assert_eq!(run(&world, CACHES, &UNINSTALL).await.0, Some(0));
    assert!(!is_installed(&world).await);
}

#[tokio::test]
async fn while_redis_is_away_only_who_writes_behind_has_to_wait_for_it() {
    let mut world = World::start().await;
    world.redis.kill().unwrap();
    for args in [UNINSTALL.as_slice(), &DRY_RUN] {
        let (code, stdout, stderr) = run(&world, CACHES, args).await;
        assert_eq!((code, stdout.as_str()), (Some(69), ""), "{stderr}");
        let told = "whether acknowledged writes wait there that are not in postgres yet";
        for part in [told, "redis cannot be asked", "hint: "] {
            assert!(stderr.contains(part), "{part} is not in {stderr}");
        }
    }
    assert!(is_installed(&world).await);
    let (code, stdout, stderr) = run(&world, &through(), &UNINSTALL).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("done: take away"), "{stdout}");
    assert!(
        stderr.starts_with("warning: redis cannot be asked"),
        "{stderr}"
    );
    assert!(!is_installed(&world).await);
}
