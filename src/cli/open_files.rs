//! The number of files the process may have open: every client is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files beside the clients': connections to the servers, doors, event queues, logs.
const BESIDE_CLIENTS: u64 = 200;

/// Asks the kernel for as many as `max_connections` clients need; says so if it gives fewer.
pub(super) fn raise_for(max_connections: usize) {
    let needed = u64::try_from(max_connections)
        .unwrap_or(u64::MAX)
        .saturating_add(BESIDE_CLIENTS);
    let limits = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let allowed = limits.current.unwrap_or(u64::MAX);
    if allowed >= needed {
        return;
    }
    let reachable = limits.maximum.unwrap_or(u64::MAX).min(needed);
    let raised = Rlimit {
        current: Some(reachable),
        maximum: limits.maximum,
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => reachable,
        Err(_refused) => allowed,
    };
    if granted < needed {
        tracing::warn!(
            "`max_connections` = {max_connections} needs {needed} open files, but the limit is {granted}; \
             raise it (LimitNOFILE= of a service, `ulimit -n` of a shell) or lower `max_connections`"
        );
    }
}
