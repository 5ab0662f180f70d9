//! The command line.

mod confirm;
mod export;
mod inbox;
mod init;
mod outbox;
mod region;
mod render;
mod run;
mod send;
mod show;
mod status;

use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{
    core::text::{printable, safe_json},
    shell::{
        control,
        desk::{Desk, Reply, Request},
        failure::{Code, EXIT_CODES, Failure},
        folder::{Folder, Lock},
        memory, unlock,
    },
};

/// Signed, end-to-end encrypted intelligence packets between agencies.
#[derive(Parser)]
#[command(name = "lintas", bin_name = "lintas", version, after_long_help = EXIT_CODES, after_help = "Exit codes: see --help")]
struct Args {
    /// Data folder of the node; for `region office` and `region sign`, the folder of the office.
    #[arg(long, global = true, env = "LINTAS_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// File of 64 hex digits that opens the keys, instead of a passphrase.
    #[arg(long, global = true, env = "LINTAS_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an agency's keys, settings and request to join a region.
    Init(init::Init),
    /// Keep the connection to the broker: send what waits, receive what comes.
    Run,
    /// Seal a draft and keep it; it is sent as soon as the broker can be reached.
    Send(send::Send),
    /// List what came.
    Inbox(inbox::List),
    /// Open one packet and print it.
    Show(show::Show),
    /// List what was sent and where it stands.
    Outbox(inbox::List),
    /// Believe a held agency's new identity key, which it has read to you by another way.
    Confirm(confirm::Confirm),
    /// How the node is.
    Status,
    /// Write the attachments of a packet, in clear, into a folder.
    Export(export::Export),
    /// The region authority: found a region, admit and revoke members, replace keys.
    Region(Box<region::Region>),
}

/// How often the lock of the folder is tried.
const LOCK_TRIES_MAX: usize = 100;
/// Pause between tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Who does what a command asks.
enum Either {
    /// The daemon did it.
    Answer(Result<Reply, Failure>),
    /// This process may.
    Lock(Lock),
}

/// What every command needs.
struct Context {
    folder: Folder,
    key_file: Option<PathBuf>,
    json: bool,
}

/// Runs a command line.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    let json = args.json;
    match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure, json);
            failure.exit()
        }
    }
}

fn dispatch(args: Args) -> Result<(), Failure> {
    let Args { data, key_file, json, command } = args;
    // Before anything secret is read.
    memory::no_core_dumps();
    // It needs no data folder of a node.
    if let Command::Region(region) = &command {
        return region::run(region, data, key_file, json);
    }
    let data = data
        .ok_or_else(|| Failure::new(Code::Usage, "which data folder? give --data DIR, or set LINTAS_DATA"))?;
    let context = Context { folder: Folder::at(&absolute(&data)?), key_file, json };
    match command {
        Command::Init(init) => init::run(&context, &init),
        Command::Run => run::run(&context),
        Command::Send(send) => send::run(&context, send),
        Command::Inbox(list) => inbox::run(&context, &list),
        Command::Show(show) => show::run(&context, show),
        Command::Outbox(list) => outbox::run(&context, &list),
        Command::Confirm(confirm) => confirm::run(&context, confirm),
        Command::Status => status::run(&context),
        Command::Export(export) => export::run(&context, &export),
        Command::Region(_) => Err(Failure::internal("a command of the region authority came too far")),
    }
}

impl Context {
    /// Asks the daemon; when there is none, opens the folder and does it here.
    fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.folder.check()?;
        let lock = match self.daemon_or_lock(&request)? {
            Either::Answer(answer) => return answer,
            Either::Lock(lock) => lock,
        };
        let desk = self.open(lock, false)?;
        let answer = desk.answer(request);
        let closed = desk.close();
        answer.and_then(|reply| closed.map(|()| reply))
    }

    /// A daemon's answer, or the lock. Another command, or a daemon that starts or stops, is waited for.
    fn daemon_or_lock(&self, request: &Request) -> Result<Either, Failure> {
        for _ in 0..LOCK_TRIES_MAX {
            if let Some(answer) = control::ask(&self.folder, request) {
                return Ok(Either::Answer(answer));
            }
            match self.folder.lock() {
                Ok(lock) => return Ok(Either::Lock(lock)),
                Err(failure) if failure.code == Code::InUse => sleep(LOCK_PAUSE),
                Err(failure) => return Err(failure),
            }
        }
        self.folder.lock().map(Either::Lock)
    }

    /// The lock, for a daemon: commands that are at work are waited for.
    fn lock(&self) -> Result<Lock, Failure> {
        for _ in 0..LOCK_TRIES_MAX {
            match self.folder.lock() {
                Err(failure) if failure.code == Code::InUse => sleep(LOCK_PAUSE),
                other => return other,
            }
        }
        self.folder.lock()
    }

    /// Opens the folder for this process.
    fn open(&self, lock: Lock, daemon: bool) -> Result<Desk, Failure> {
        let unlocker = unlock::unlocker(self.key_file.as_deref())?;
        Desk::open(self.folder.clone(), lock, &unlocker, daemon)
    }

    /// Prints a value as JSON, or as the words that `plain` makes of it.
    fn print<T: Serialize>(&self, value: &T, plain: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        print(self.json, value, plain)
    }
}

/// Prints a value as JSON, or as the words that `plain` makes of it.
fn print<T: Serialize>(json: bool, value: &T, plain: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let text = if json {
        let json = serde_json::to_string_pretty(value).map_err(Failure::internal)?;
        format!("{}\n", safe_json(&json))
    } else {
        plain(value)
    };
    // Whoever reads may go away before the end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// An answer to another question; cannot happen between a command and a daemon of one version.
fn unexpected() -> Failure {
    Failure::internal("the answer is one to another question; is the daemon of another version?")
}

fn complain(failure: &Failure, json: bool) {
    let text = if json {
        let value = serde_json::json!({ "error": failure, "exit": failure.code as u8 });
        safe_json(&value.to_string())
    } else {
        // Bars mark a stranger's line breaks; ours are indented.
        format!("lintas: {}", printable(&failure.message).replace("\n    | ", "\n"))
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::file("find", path, &error))
}
