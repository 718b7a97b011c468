//! `scripts/deps.sh` on machines that lack something. They are made of a `PATH`: what is not in it is not installed.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A machine with some commands that do nothing.
struct Machine(TempDir);

impl Machine {
    fn with(commands: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        // The script asks it where the repository is.
        machine.install("dirname", r#"echo "${1%/*}""#);
        for name in commands {
            machine.install(name, ":");
        }
        machine
    }

    /// An `apt-get` that tells what it was asked.
    fn with_apt_get(self) -> Self {
        self.install("apt-get", r#"echo "apt-get $*""#);
        self
    }

    /// A shell writes it: had we the file open while another test starts a process, that process would have it open for a
    /// moment, too, and nobody may execute a file that is open for writing.
    fn install(&self, name: &str, body: &str) {
        let written = Command::new("/bin/sh")
            .args([
                "-c",
                r##"printf '#!/bin/sh\n%s\n' "$1" > "$0"; chmod +x "$0""##,
            ])
            .arg(self.0.path().join(name))
            .arg(body)
            .status()
            .unwrap();
        assert!(written.success());
    }

    fn deps(&self, user: &str, parts: &[&str]) -> Output {
        self.install("id", &format!("echo {user}"));
        Command::new("/bin/sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deps.sh"))
            .args(parts)
            .env_clear()
            .env("PATH", self.0.path())
            .output()
            .unwrap()
    }
}

/// What `id -u` says.
const ROOT: &str = "0";
const SOMEBODY: &str = "1000";

/// Exit code, and both streams.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn who_may_not_install_is_told_the_command_that_does() {
    let machine = Machine::with(&[]).with_apt_get();
    let (code, out, errors) = said(machine.deps(SOMEBODY, &["build", "bench"]));
    assert_eq!((code, out.as_str()), (Some(69), ""), "{errors}");
    assert_eq!(
        errors,
        "deps: missing: gcc libc6-dev redis-tools nutcracker\n\
         hint: sudo apt-get update && sudo apt-get install -y --no-install-recommends gcc libc6-dev redis-tools nutcracker\n"
    );
}

#[test]
fn root_gets_what_is_missing_and_nothing_else() {
    let machine = Machine::with(&["redis-benchmark"]).with_apt_get();
    let (code, out, errors) = said(machine.deps(ROOT, &["build", "bench"]));
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(
        out,
        "apt-get update\napt-get install -y --no-install-recommends gcc libc6-dev nutcracker\n"
    );
}

#[test]
fn who_gets_a_server_is_told_that_debian_starts_one_of_its_own() {
    let machine = Machine::with(&[]).with_apt_get();
    let (code, _, errors) = said(machine.deps(ROOT, &["servers"]));
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("hint: systemctl disable --now redis-server"),
        "{errors}"
    );
}

#[test]
fn a_machine_that_has_everything_is_left_alone() {
    let machine = Machine::with(&["cc", "redis-benchmark", "nutcracker"]).with_apt_get();
    let quiet = (Some(0), String::new(), String::new());
    assert_eq!(said(machine.deps(ROOT, &["build", "bench"])), quiet);
    assert_eq!(said(machine.deps(SOMEBODY, &["build", "bench"])), quiet);
}

#[test]
fn without_apt_get_the_names_of_debians_packages_are_told() {
    for user in [ROOT, SOMEBODY] {
        let (code, _, errors) = said(Machine::with(&[]).deps(user, &["build"]));
        assert_eq!(code, Some(69), "{errors}");
        assert!(
            errors.starts_with("deps: missing: gcc libc6-dev, and there is no `apt-get` here"),
            "{errors}"
        );
    }
}

#[test]
fn an_unknown_part_is_refused() {
    let (code, _, errors) = said(Machine::with(&[]).deps(ROOT, &["everything"]));
    assert_eq!(code, Some(64), "{errors}");
    assert!(
        errors.contains("`everything` is none of build, servers, clients, unit, bench"),
        "{errors}"
    );
}
