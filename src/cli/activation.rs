//! Sockets that the service manager has bound and passes on: `sd_listen_fds(3)`.

use crate::Passed;
use listenfd::ListenFd;

/// Takes what was passed to this process, and the variables that tell of it. To be called before any thread is started.
pub(super) fn passed() -> Result<Passed, String> {
    let mut given = ListenFd::from_env();
    let mut passed = Passed::default();
    for place in 0..given.len() {
        if let Ok(Some(listener)) = given.take_tcp_listener(place) {
            passed.add_tcp(listener);
        } else if let Ok(Some(listener)) = given.take_unix_listener(place) {
            passed.add_unix(listener);
        } else {
            return Err(format!(
                "socket {} of those that the service manager passes on is no stream socket that listens\n\
                 hint: cachewarden.socket has lines of ListenStream= only",
                place + 1
            ));
        }
    }
    Ok(passed)
}
