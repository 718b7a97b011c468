//! Logging set-up: where lines go and how they look, once a process.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The level directives or the journal could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error(
        "`log.level` = `{level}` is no list of levels; write e.g. \"info\" or \"info,cachewarden::cache=debug\""
    )]
    Level { level: String },
    #[error(
        "`log.format` = \"journald\", but the journal cannot be reached: {0}; use \"text\" or \"json\""
    )]
    Journal(std::io::Error),
    #[error("logging was set up before in this process")]
    Twice,
}

/// Sends every line of this process to stderr (`text`, `json`) or to the journal. Stdout stays free for results.
///
/// # Errors
/// See [`LoggingError`].
pub fn set_up(log: &Log) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|_unparsed| LoggingError::Level {
        level: log.level.clone(),
    })?;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            Box::new(fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
        }
        LogFormat::Json => Box::new(fmt::layer().json().with_writer(std::io::stderr)),
        LogFormat::Journald => Box::new(tracing_journald::layer().map_err(LoggingError::Journal)?),
    };
    Registry::default()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_set_before| LoggingError::Twice)
}
