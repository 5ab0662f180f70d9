//! The command line of a broker.

use std::{
    error::Error, ffi::OsString, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use lintas_config::settings::LogFormat;
use lintas_proto::id::{IdError, check_name, hex};
use tracing_subscriber::EnvFilter;

use crate::shell::{Folder, FolderError, RunError, run, signals};

/// Longest wait for threads at the end of the process, milliseconds.
const EXIT_MS_MAX: u64 = 2_000;

/// The regional broker of Lintas.
///
/// Exit codes: 0 done; 2 wrong use; 3 the data folder, its keys or its directory cannot be used; 4 the
/// journal cannot be used; 5 the network cannot be used.
#[derive(Debug, Parser)]
#[command(name = "lintas-broker", bin_name = "lintas-broker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the keys and settings of a new broker.
    Init {
        /// Folder for its data.
        #[arg(long)]
        data: PathBuf,
        /// Name of the broker, e.g. `hub.mekong`.
        #[arg(long, value_parser = name)]
        name: String,
        /// Address and UDP port to listen on.
        #[arg(long, default_value = "127.0.0.1:7411")]
        listen: SocketAddr,
    },
    /// Runs the broker until SIGTERM or Ctrl-C.
    Run {
        /// Folder with its data.
        #[arg(long)]
        data: PathBuf,
    },
}

/// Runs the command line `arguments`, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match arguments.command {
        Command::Init { data, name, listen } => init(&Folder::at(&data), &name, listen),
        Command::Run { data } => serve(&Folder::at(&data)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lintas-broker: {}", whole(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// An error with its causes: the journal's say which record, and what is wrong with it.
fn whole(error: &RunError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent error says the same as its cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn name(text: &str) -> Result<String, IdError> {
    check_name(text).map(|()| text.to_owned())
}

fn init(folder: &Folder, name: &str, listen: SocketAddr) -> Result<(), RunError> {
    let keys = folder.create(name, listen)?;
    say(&format!(
        "Keys made. Give broker.roster to the region authority; compare these by another way:\n  \
         transport key {}\n  receipt key   {}",
        hex(&keys.transport_key),
        hex(&keys.receipt_key),
    ));
    Ok(())
}

fn serve(folder: &Folder) -> Result<(), RunError> {
    log(folder.settings()?.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let stop = signals()?;
        run(folder, stop, |address| say(&format!("The broker listens on {address}."))).await
    });
    // A thread that hangs on a failed disk must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(EXIT_MS_MAX));
    ran
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    // Nobody may be reading; the broker runs all the same.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Logs to standard error. `LINTAS_LOG` sets the level, e.g. `debug`. No payloads, no secrets.
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LINTAS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // A second broker in one process logs with the first.
    drop(set);
}

fn exit_code(error: &RunError) -> u8 {
    match error {
        RunError::Folder(
            FolderError::Io { .. }
            | FolderError::Exists(_)
            | FolderError::InUse(_)
            | FolderError::Settings { .. }
            | FolderError::Keys(_)
            | FolderError::Issue(_)
            | FolderError::Directory(_)
            | FolderError::Succession(_)
            | FolderError::Current(_)
            | FolderError::Mark(_)
            | FolderError::Step(_),
        )
        | RunError::Key(_)
        | RunError::NotListed(_)
        | RunError::Io(_) => 3,
        RunError::Index(_) | RunError::Open(_) | RunError::Commit(_) | RunError::Failed => 4,
        RunError::Link(_) | RunError::Metrics(..) => 5,
    }
}
