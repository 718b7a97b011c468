//! What systemd itself says of the unit. Its programs read files; no systemd need run here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The most exposure we accept, in tenths: what is left when a service listens, and may talk to servers anywhere.
const EXPOSURE: &str = "11";

#[test]
fn the_unit_leaves_little_to_a_break_in() {
    let judged = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold", EXPOSURE])
        .arg(ours("cachewarden.service")));
    assert!(judged.status.success(), "{}", said(&judged));
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    // The packaged path is not on this machine; our binary takes its place.
    let unit = read("cachewarden.service");
    let here = unit.replace("/usr/bin/cachewarden", env!("CARGO_BIN_EXE_cachewarden"));
    assert_ne!(unit, here);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cachewarden.service");
    fs::write(&path, here).unwrap();
    let socket = folder.path().join("cachewarden.socket");
    fs::write(&socket, read("cachewarden.socket")).unwrap();
    let verified = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([path, socket]));
    // What systemd ignores in a unit, it only mentions.
    assert!(
        verified.status.success() && verified.stderr.is_empty(),
        "{}",
        said(&verified)
    );
}

#[test]
fn the_user_of_the_unit_is_one_that_sysusers_makes() {
    let made = run(Command::new("systemd-sysusers")
        .arg("--dry-run")
        .arg(ours("sysusers.conf")));
    assert!(made.status.success(), "{}", said(&made));
    let user = read("cachewarden.service")
        .lines()
        .find_map(|line| line.strip_prefix("User="))
        .map(|user| format!("\nu {user} "));
    let user = user.expect("the unit names a user");
    assert!(read("sysusers.conf").contains(&user), "{user}");
}

#[test]
fn every_secret_the_unit_passes_on_has_a_key_in_the_sample_configuration() {
    let sample = read("cachewarden.toml");
    let unit = read("cachewarden.service");
    let names: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("#LoadCredential=")?.split_once(':'))
        .map(|(name, _file)| name)
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let file = format!("\"/run/credentials/cachewarden.service/{name}\"");
        assert!(sample.contains(&file), "no key names {file}");
    }
}

fn ours(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(ours(name)).unwrap()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}\nhint: apt-get install -y --no-install-recommends systemd")
    })
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}
