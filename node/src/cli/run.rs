//! `lintas run`: the daemon.

use clap::Args;
use lintas_config::settings::LogFormat;
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::shell::{daemon, failure::Failure, unlock};

/// Options of `run`.
#[derive(Args)]
pub(super) struct Run {
    /// Begin without keys: `lintas unlock` brings them. For services that start with the machine.
    #[arg(long)]
    locked: bool,
}

/// Runs until it is told to stop. The log goes to standard error; it never holds payloads, names or secrets.
pub(super) fn run(context: &Context, run: &Run) -> Result<(), Failure> {
    context.folder.check()?;
    let format = context.folder.settings()?.log;
    log(if context.json { LogFormat::Json } else { format });
    let lock = context.lock()?;
    let key_file = context.key_file.as_deref();
    let with = if run.locked { None } else { Some(unlock::unlocker(key_file)?) };
    daemon::run(context.folder.clone(), lock, with)
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
