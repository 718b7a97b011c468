//! Exit codes, after BSD's sysexits.h.

use crate::StartError;

/// Something is wrong with what was asked for.
pub(super) const FAILED: u8 = 1;
/// `EX_UNAVAILABLE`: a server or an address cannot be had.
pub(super) const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: an actor could not be kept running.
pub(super) const SOFTWARE: u8 = 70;
/// `EX_OSERR`: the system gives no thread, no signal handler.
pub(super) const OS: u8 = 71;
/// `EX_CONFIG`: the configuration is wrong.
pub(super) const CONFIG: u8 = 78;

/// The code for a daemon that did not start.
pub(super) fn of_start(error: &StartError) -> u8 {
    match error {
        StartError::Address(_) | StartError::Http(_) => UNAVAILABLE,
        StartError::Tls(_)
        | StartError::Passed(_)
        | StartError::Redis(_)
        | StartError::Postgres(_)
        | StartError::Queries(_)
        | StartError::Watches(_)
        | StartError::Journal(_) => CONFIG,
        StartError::Thread(_) => OS,
        StartError::Actor(_) => SOFTWARE,
    }
}

/// Says on stderr what went wrong.
pub(super) fn tell(message: impl std::fmt::Display) {
    eprintln!("{message}");
}
