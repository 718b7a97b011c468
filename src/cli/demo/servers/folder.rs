//! The folder of private servers, and the watchdog that ends them with us.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::ServerError;
use super::find::Account;

const WATCHDOG: &str = include_str!("watchdog.sh");

/// A folder for private servers; it goes, with all servers started in it, when its last clone is dropped or when this
/// process ends, in whatever way.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    watchdog: Mutex<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    shell: Child,
    /// Closing it is the signal to clean up. The kernel closes it for us when we are killed.
    line: Option<ChildStdin>,
}

impl Folder {
    /// Makes a folder in the system's temporary folder, named `cachewarden-` and random letters.
    ///
    /// # Errors
    /// [`ServerError::File`] or [`ServerError::Spawn`] when the folder or its watchdog cannot be made.
    pub fn new() -> Result<Self, ServerError> {
        let parent = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("cachewarden-")
            // Servers run as another account when root starts us: they must be able to pass through.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&parent)
            .map_err(ServerError::file("make a folder in", parent))?;
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "cachewarden-watchdog"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C at the terminal must not end the one who cleans up.
            .process_group(0)
            .spawn()
            .map_err(|source| ServerError::Spawn {
                program: "sh".into(),
                source,
            })?;
        let line = shell.stdin.take();
        let watchdog = Mutex::new(Watchdog { shell, line });
        Ok(Self(Arc::new(Watched {
            path: folder.keep(),
            watchdog,
        })))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Makes a new folder inside, owned by `account`.
    pub(super) fn subfolder(
        &self,
        name: &str,
        account: Option<Account>,
    ) -> Result<PathBuf, ServerError> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(self.path())
            .map_err(ServerError::file("make a folder in", self.path()))?
            .keep();
        if let Some(Account { uid, gid }) = account {
            chown(&folder, Some(uid), Some(gid))
                .map_err(ServerError::file("hand over", &folder))?;
        }
        Ok(folder)
    }

    /// Tells the watchdog to end process `pid` with `signal` (a name without `SIG`) when we are gone. Its command line
    /// must name a path in this folder: by that the watchdog knows it from one that got its number later.
    ///
    /// # Errors
    /// [`ServerError::File`] if the watchdog is gone.
    pub fn watch(&self, pid: u32, signal: &str) -> Result<(), ServerError> {
        let mut watchdog = self.0.watchdog.lock();
        let Some(line) = watchdog.line.as_mut() else {
            return Ok(());
        };
        writeln!(line, "{signal} {pid}")
            .map_err(ServerError::file("reach the watchdog of", self.path()))
    }
}

#[cfg(test)]
impl Folder {
    /// What the kernel does when this process is killed.
    pub(super) fn close_watchdog_line(&self) {
        self.0.watchdog.lock().line = None;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let watchdog = self.watchdog.get_mut();
        drop(watchdog.line.take());
        // The watchdog has a deadline of its own. If someone killed it, what it would have removed is removed here.
        let _ = watchdog.shell.wait();
        let _ = fs::remove_dir_all(&self.path);
    }
}
