//! What the service may not do, and where it gets its secrets from.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::support::booted::{Booted, boxed};
use super::super::support::servers::redis;

/// The sandbox of the unit around a program that tries what a break-in would.
const PROBE: &str = "[Service]
Type=oneshot
ExecStart=
ExecStart=/bin/bash /run/box/probe.sh
WatchdogSec=0
Restart=no
";

/// Each line: an act, a colon, and whether it went.
const ACTS: &str = r#"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: done"; else echo "$name: refused"; fi; }
{
    try 'write to its runtime directory' touch /run/cachewarden/mine
    try 'read its configuration' cat /etc/cachewarden/cachewarden.toml
    try 'open a unix socket' perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) or die'
    try 'open a socket of IP' perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0) or die'
    try 'write to /etc' touch /etc/passwd
    try 'write to /usr' touch /usr/bin/cachewarden
    try 'write to /run' touch /run/box/mine
    try 'look into homes' ls /root
    try 'see temporary files of others' test -e /var/tmp/of-others
    try 'see process 1' test -e /proc/1/status
    try 'read the memory of the machine' test -e /proc/meminfo
    try 'make a device' mknod /run/cachewarden/disk b 8 0
    try 'open a socket of the kernel' perl -e 'socket(S, 16, 3, 0) or die'
    try 'open a raw socket' perl -MSocket -e 'socket(S, AF_INET, SOCK_RAW, 1) or die'
    try 'make a name space' unshare --user true
    try 'mount' mount -t tmpfs none /run/cachewarden
    try 'make a set-uid file' sh -c 'cp /bin/true /run/cachewarden/t && chmod u+s /run/cachewarden/t'
    try 'set the clock' date -s now
    try 'rename the machine' hostname elsewhere
    try 'raise its priority' sh -c 'was=$(nice); test "$(nice -n -1 nice)" -lt "$was"'
    try 'become another user' setpriv --reuid=0 true
    try 'reach into another process' sh -c 'kill -0 1'
    try 'leave a file that others may read' sh -c 'touch /run/cachewarden/f && test "$(stat -c %a /run/cachewarden/f)" != 600'
} >/run/cachewarden/probe
"#;

/// What the daemon needs: the first lines of [`ACTS`].
const NEEDED: usize = 4;

#[tokio::test]
async fn the_sandbox_lets_it_do_what_it_needs_and_refuses_what_a_break_in_would() {
    let booted = Booted::boot_with(&boxed(None, ""), PROBE).await;
    fs::write(booted.folder().join("probe.sh"), ACTS).unwrap();
    fs::write(booted.file("/var/tmp/of-others"), "").unwrap();
    booted.systemctl(&["start", "cachewarden"]).await;
    let probed = fs::read_to_string(booted.file("/run/cachewarden/probe")).unwrap();
    let wrong: Vec<&str> = probed
        .lines()
        .enumerate()
        .filter(|(place, line)| line.ends_with(": done") != (*place < NEEDED))
        .map(|(_, line)| line)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?} in\n{probed}");
    assert_eq!(probed.lines().count(), ACTS.matches("\n    try ").count());
}

#[tokio::test]
async fn a_secret_that_only_root_may_read_is_passed_on_to_the_service_alone() {
    let redis = redis();
    let secret = "/run/credentials/cachewarden.service/resp_password";
    let config = boxed(None, &format!("resp.password_file = {secret:?}\n"));
    let passed = "[Service]\nLoadCredential=resp_password:/run/box/secret\n";
    let booted = Booted::boot_with(&config, passed).await;
    booted.link_redis(&redis);
    let file = booted.folder().join("secret");
    fs::write(&file, "open sesame\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    booted.systemctl(&["start", "cachewarden"]).await;
    let mut client = booted.client().await;
    let refused = client.command(&["PING"]).await;
    assert!(refused.error().starts_with("NOAUTH"), "{refused:?}");
    let let_in = client.command(&["AUTH", "open sesame"]).await;
    assert_eq!(let_in.text(), "OK");
    let inside = fs::metadata(booted.file(secret)).unwrap();
    assert_eq!(inside.permissions().mode() & 0o377, 0, "{inside:?}");
    let folder = fs::metadata(booted.file("/run/cachewarden")).unwrap();
    assert_ne!(folder.uid(), 0);
    assert!([0, folder.uid()].contains(&inside.uid()), "{inside:?}");
    assert!(!booted.journal().await.contains("sesame"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let secret = "/run/credentials/cachewarden.service/resp_password";
    let config = boxed(None, &format!("resp.password_file = {secret:?}\n"));
    let booted = Booted::boot(&config).await;
    let started = booted.inside("systemctl", &["start", "cachewarden"]).await;
    assert!(!started.status.success());
    assert_eq!(booted.property("ExecMainStatus").await, "78");
    let journal = booted.journal().await;
    assert!(journal.contains(secret), "{journal}");
}
