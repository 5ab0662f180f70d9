//! The command line of a broker.

use std::{
    error::Error, ffi::OsString, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use lintas_config::{
    clock::Reading,
    settings::LogFormat,
    words::{fingerprint_digits, fingerprint_words},
};
use lintas_proto::{
    id::{IdError, check_name, hex},
    limits::CLOCK_SKEW_MS_MAX,
};
use tracing_subscriber::EnvFilter;

use crate::shell::{Folder, FolderError, RunError, Verdict, check, run, signals};

/// Longest wait for threads at the end of the process, milliseconds.
const EXIT_MS_MAX: u64 = 2_000;

const EXIT_CODES: &str = "\
Example:
  lintas-broker init --data /srv/lintas --name hub.mekong --listen 203.0.113.7:7411
  lintas-broker run --data /srv/lintas

Exit codes:
   0  done
   2  the command line is wrong
   3  the data folder, its keys, its directory or its policies cannot be used
   4  the journal cannot be used, or the disk failed
   5  the network cannot be used, e.g. the port is taken
   6  it runs on a restored backup: others know more of its audit log than it does
  30  `check`: journal or audit log are damaged
  32  `check`: whole, but the last write to the journal is not finished: as after a crash; after a clean stop it is damage

LINTAS_LOG=debug makes `run` say more; the log goes to standard error. Every setting is explained in broker.toml.";

/// The regional broker of Lintas: admits, keeps and delivers packets that it cannot read.
#[derive(Debug, Parser)]
#[command(name = "lintas-broker", bin_name = "lintas-broker", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Answer in JSON; errors too. The log of `run` is written as `log` in broker.toml says.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the keys and settings of a new broker.
    Init {
        /// Folder for its data; made if it is not there.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Name of the broker as region.toml of the region authority writes it, e.g. `hub.mekong`.
        #[arg(long, value_parser = name, value_name = "NAME")]
        name: String,
        /// IP address and UDP port to listen on. Change it later in broker.toml.
        #[arg(long, default_value = "127.0.0.1:7411", value_name = "ADDRESS", value_parser = address)]
        listen: SocketAddr,
        /// Folder of this broker before: its log goes on under the same log key. Without it the region authority must
        /// end that log, and a new one begins.
        #[arg(long, value_name = "DIR")]
        log_of: Option<PathBuf>,
    },
    /// Run the broker until SIGTERM or Ctrl-C. SIGHUP takes a new directory.bin at once.
    Run {
        /// Folder with its data.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Say that this machine's clock is right, after comparing it with another one, e.g. a watch. For a broker whose clock is
    /// in doubt, and to which not enough members connect that could say so; it takes the word within a second, once, and
    /// its log says so.
    BelieveClock {
        /// Folder with its data.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The time by that other clock, in UTC, e.g. `2026-11-23T04:05Z`.
        #[arg(long, value_name = "TIME", value_parser = time)]
        utc: jiff::Timestamp,
    },
    /// Check the disk of a broker that does not run: every record of its journal, every entry and tile of its audit log,
    /// and that the two agree. Nothing is written, and no key is read.
    Check {
        /// Folder with its data, or a copy of it: broker.toml, journal/ and audit/.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// Runs the command line `arguments`, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let json = words.iter().any(|word| word == "--json");
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) if json && error.use_stderr() => {
            let text = error.render().to_string();
            complain(text.strip_prefix("error: ").unwrap_or(&text).trim_end(), 2, json);
            return ExitCode::from(2);
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match arguments.command {
        Command::Init { data, name, listen, log_of } => {
            let log_of = log_of.as_deref().map(Folder::at);
            init(&Folder::at(&data), &name, listen, log_of.as_ref(), json).map(|()| 0)
        }
        Command::Run { data } => serve(&Folder::at(&data)).map(|()| 0),
        Command::BelieveClock { data, utc } => believe(&Folder::at(&data), utc, json).map(|()| 0),
        Command::Check { data } => look(&Folder::at(&data), json),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = exit_code(&error);
            complain(&whole(&error), code, json);
            ExitCode::from(code)
        }
    }
}

/// Says what went wrong, on standard error.
fn complain(message: &str, code: u8, json: bool) {
    let text = if json {
        serde_json::json!({ "error": { "message": message }, "exit": code }).to_string()
    } else {
        format!("lintas-broker: {message}")
    };
    let _ = writeln!(std::io::stderr(), "{text}");
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

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "write an IP address and a UDP port, e.g. 203.0.113.7:7411; names are not looked up")
}

fn name(text: &str) -> Result<String, IdError> {
    check_name(text).map(|()| text.to_owned())
}

fn time(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "write the time in UTC as 2026-11-23T04:05Z")
}

fn believe(folder: &Folder, utc: jiff::Timestamp, json: bool) -> Result<(), RunError> {
    // There is one.
    folder.settings()?;
    let now = Reading::take();
    let said_ms = u64::try_from(utc.as_millisecond()).unwrap_or(0);
    if said_ms.abs_diff(now.wall_ms) > CLOCK_SKEW_MS_MAX {
        return Err(RunError::OtherTime { minutes: said_ms.abs_diff(now.wall_ms) / 60_000 });
    }
    folder.believe_clock(now)?;
    say(&if json {
        serde_json::json!({ "clock_ms": now.wall_ms }).to_string()
    } else {
        "A broker whose clock is in doubt goes by it from now on; its log says so.".to_owned()
    });
    Ok(())
}

fn init(
    folder: &Folder,
    name: &str,
    listen: SocketAddr,
    log_of: Option<&Folder>,
    json: bool,
) -> Result<(), RunError> {
    let keys = folder.create(name, listen, log_of)?;
    let shown = |key: &[u8]| {
        let key = <[u8; 32]>::try_from(key).unwrap_or_default();
        (fingerprint_words(&key), fingerprint_digits(&key), hex(&key))
    };
    let (transport, receipt, log) =
        (shown(&keys.transport_key), shown(&keys.receipt_key), shown(&keys.log_key));
    let roster = folder.path("broker.roster");
    if json {
        let key = |(words, digits, key): &(String, String, String)| serde_json::json!({ "key": key, "words": words, "digits": digits });
        let made = serde_json::json!({
            "name": name, "listen": listen, "broker_roster": roster,
            "transport_key": key(&transport), "receipt_key": key(&receipt), "log_key": key(&log),
        });
        say(&format!("{made:#}"));
        return Ok(());
    }
    let plain =
        |(words, digits, key): &(String, String, String)| format!("    {words}\n    {digits}\n    {key}");
    say(&format!(
        "The keys of broker {name} are made, in {}.\n\nIts keys in words, digits and hex:\n  connects with\n{}\n  signs \
         receipts with\n{}\n  signs its log with\n{}\n\nWhat to do next:\n\
         1. Give {} to the region authority, and read it the words by another way, e.g. by telephone.\n\
         2. Copy broker.keys to a place that is offline.\n\
         3. Put bootstrap.toml and directory.bin, as the authority gives them, into the folder.\n\
         4. Start `lintas-broker run`.",
        roster.parent().unwrap_or(&roster).display(),
        plain(&transport),
        plain(&receipt),
        plain(&log),
        roster.display(),
    ));
    Ok(())
}

/// Checks, says what was found, and gives the exit code.
fn look(folder: &Folder, json: bool) -> Result<u8, RunError> {
    let report = check(folder)?;
    say(&if json { format!("{:#}", report.json()) } else { report.plain().trim_end().to_owned() });
    Ok(match report.verdict() {
        Verdict::Whole => 0,
        Verdict::Torn => 32,
        Verdict::Damaged => 30,
    })
}

fn serve(folder: &Folder) -> Result<(), RunError> {
    log(folder.settings()?.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let mut stop = std::pin::pin!(signals()?);
        loop {
            let ready = |address| say(&format!("The broker listens on {address}."));
            match run(folder, stop.as_mut(), ready).await {
                // Its next log begins with a start.
                Err(error @ RunError::LogEnded) => tracing::warn!("{error}"),
                ran => break ran,
            }
        }
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
            | FolderError::Step(_)
            | FolderError::Changed(_)
            | FolderError::PolicyMissing { .. }
            | FolderError::PolicyDamaged { .. }
            | FolderError::PolicyMark(_)
            | FolderError::PolicyRolledBack { .. },
        )
        | RunError::Baseline(_)
        | RunError::Key(_)
        | RunError::NotListed(_)
        | RunError::OtherName { .. }
        | RunError::RosterBehindLog { .. }
        | RunError::LogEnded
        | RunError::Io(_) => 3,
        RunError::OtherTime { .. } => 2,
        RunError::Index(_)
        | RunError::Open(_)
        | RunError::Publish(_)
        | RunError::Commit(_)
        | RunError::Record(_)
        | RunError::Damaged(_)
        | RunError::Failed => 4,
        RunError::Link(_) | RunError::Metrics(..) => 5,
        RunError::Behind(_) => 6,
    }
}
