//! Subcommands that ask a running daemon, as somebody types them.

use std::fs;

use cachewarden::cli::demo::servers::{Folder, free_port};

use super::door::entry::{make_certificate, tls};
use super::support::daemon::{Spawned, cachewarden, said};
use super::support::resp::Client;
use super::support::servers::redis;
use super::support::world::{count, raw};

const CALC: &str = "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\n";

fn ran(stdout: &str) -> (Option<i32>, String, String) {
    (Some(0), stdout.to_owned(), String::new())
}

async fn fill(raw: &mut Client, keys: u32) {
    for key in 1..=keys {
        raw.command(&["SET", &format!("calc:{key}"), "1"]).await;
    }
}

#[tokio::test]
async fn keys_and_patterns_are_counted_and_removed_from_the_command_line() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let mut daemon = Spawned::start_with(
        |address| {
            let url = redis.redis_url();
            format!("redis.url = {url:?}\nresp.listen = [\"{address}\"]\n{CALC}")
        },
        |_| {},
    );
    daemon.notice("READY=1").await;
    let config = fs::read_to_string(daemon.config()).unwrap();
    let run = async |args: &[&str]| said(&cachewarden(&config, args).await);
    fill(&mut raw, 30).await;
    let dry = ["invalidate", "--dry-run", "calc:1?", "calc:2"];
    assert_eq!(run(&dry).await, ran("this would remove 11 keys\n"));
    assert_eq!(
        run(&["invalidate", "--dry-run", "--json", "calc:*"]).await,
        ran("{\"would_remove\":30}\n")
    );
    assert_eq!(count(&mut raw).await, 30);
    assert_eq!(
        run(&["invalidate", "calc:1?", "calc:2"]).await,
        ran("removed 11 keys\n")
    );
    assert_eq!(run(&["invalidate", "calc:3"]).await, ran("removed 1 key\n"));
    assert_eq!(
        run(&["invalidate", "--json", "calc:*"]).await,
        ran("{\"removed\":18}\n")
    );
    assert_eq!(count(&mut raw).await, 0);
    // Nothing is under way any more.
    assert_eq!(
        run(&["invalidate", "--cancel", "*"]).await,
        ran("cancelled 0 sweeps\n")
    );
    // What the daemon refuses is told in its words.
    let (code, stdout, stderr) = run(&["invalidate", "*"]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("BADPATTERN '*' is too wide"), "{stderr}");
    let (code, ..) = run(&["invalidate"]).await;
    assert_eq!(code, Some(64));
    drop(daemon);
    let (code, _, stderr) = run(&["invalidate", "calc:1"]).await;
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("hint: is `cachewarden run` up"), "{stderr}");
}

#[tokio::test]
async fn the_daemon_is_asked_with_its_password_over_tls_or_a_unix_socket() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let folder = Folder::new().unwrap();
    let (cert, key) = make_certificate(folder.path());
    let socket = format!("unix:{}/resp.sock", folder.path().display());
    // A name that the certificate is not made out to.
    let tcp = format!("127.0.0.1:{}", free_port().unwrap());
    for listen in [tcp, socket] {
        let url = redis.redis_url();
        let tls = tls(&cert, &key);
        let text = format!(
            "redis.url = {url:?}\nresp.listen = [{listen:?}]\nresp.password = \"secret-of-the-test\"\n{tls}\n{CALC}"
        );
        let mut daemon = Spawned::start_with(|_| text.clone(), |_| {});
        daemon.notice("READY=1").await;
        fill(&mut raw, 3).await;
        let output = cachewarden(&text, &["invalidate", "calc:*"]).await;
        assert_eq!(said(&output), ran("removed 3 keys\n"), "{listen}");
        if !listen.starts_with("unix:") {
            // Whoever shows another certificate is not told the password.
            let impostor = Folder::new().unwrap();
            let (other, _) = make_certificate(impostor.path());
            let text = text.replace(cert.to_str().unwrap(), other.to_str().unwrap());
            let (code, stdout, stderr) = said(&cachewarden(&text, &["invalidate", "calc:*"]).await);
            assert_eq!((code, stdout.as_str()), (Some(69), ""), "{stderr}");
            assert!(stderr.contains("certificate"), "{stderr}");
        }
    }
}
