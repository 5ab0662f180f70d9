//! `lintas run`: the daemon.

use lintas_config::settings::LogFormat;
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::shell::{daemon, failure::Failure};

/// Runs until it is told to stop. The log goes to standard error; it never holds payloads, names or secrets.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.folder.check()?;
    let format = context.folder.settings()?.log;
    log(if context.json { LogFormat::Json } else { format });
    let lock = context.lock()?;
    daemon::run(context.open(lock, true)?)
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LINTAS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Fails only when a log is there already, as in tests.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}
