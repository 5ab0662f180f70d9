//! The command line.

mod audit;
mod confirm;
mod doctor;
mod evidence;
mod export;
mod exposure;
mod handover;
mod help;
mod inbox;
mod init;
mod join;
mod keys;
mod lock;
mod outbox;
mod policy;
mod progress;
mod purge;
mod region;
mod render;
mod replace;
mod review;
mod run;
mod send;
mod show;
mod status;

use std::{
    cell::RefCell,
    ffi::OsString,
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

use clap::{FromArgMatches as _, Parser, Subcommand};
use serde::Serialize;

use crate::{
    core::text::{printable, safe_json},
    shell::{
        control::{self, Watcher},
        desk::{Desk, Reply, Request},
        failure::{Code, EXIT_CODES, Failure},
        folder::{Folder, Lock},
        memory, unlock,
    },
};

/// Heading of the options that every command takes.
const EVERYWHERE: &str = "Options of every command";

/// What stands at the end of the long help.
fn ending() -> String {
    format!("{}{EXIT_CODES}", help::EXAMPLES)
}

/// Signed, end-to-end encrypted intelligence packets between agencies.
#[derive(Parser)]
#[command(name = "lintas", bin_name = "lintas", version, after_long_help = ending(), after_help = "Examples and exit codes: --help")]
struct Args {
    /// Data folder of the node; for `region office` and `region sign`, the folder of the office.
    #[arg(long, global = true, env = "LINTAS_DATA", value_name = "DIR", help_heading = EVERYWHERE)]
    data: Option<PathBuf>,
    /// File of 64 hex digits that opens the keys, instead of a passphrase.
    #[arg(long, global = true, env = "LINTAS_KEY_FILE", value_name = "FILE", help_heading = EVERYWHERE)]
    key_file: Option<PathBuf>,
    /// Answer in JSON; errors too.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an agency's keys, settings and request to join a region.
    Init(init::Init),
    /// Take up the region, once its authority has admitted this agency.
    Join(join::Join),
    /// Keep the connection to the broker: send what waits, receive what comes, until Ctrl-C or SIGTERM.
    Run(run::Run),
    /// How the node is: connection, directory, what waits, what is to be done.
    Status,
    /// Check everything that can be checked, and say what to do.
    ///
    /// With a running node and without; then it tries the broker once, for 20 seconds at most. Exit code 0: all is well;
    /// 20: warnings, it works; 21: something is wrong.
    Doctor,
    /// Seal a draft and keep it; it is sent as soon as the broker can be reached.
    Send(send::Send),
    /// Look at what waits for a person's review before it is sent: list it, show it, release or refuse it.
    Review(review::Review),
    /// List what was sent and where it stands, the newest first.
    Outbox(inbox::List),
    /// List what came, the newest first.
    Inbox(inbox::List),
    /// Open one packet and print it.
    Show(show::Show),
    /// What became of a packet, as it can be proven to others: by receipts, acknowledgements and the audit log.
    Evidence(evidence::Show),
    /// Write the attachments of a packet, in clear, into a folder.
    Export(export::Export),
    /// Give your word for an agency that is new, or held for a new identity key, so that it may be sent to.
    Confirm(confirm::Confirm),
    /// The keys of this agency: look, renew, revoke, publish, hand over. Alone it shows them.
    Keys(keys::Keys),
    /// Make the running node drop its keys; it neither sends nor receives until `unlock`.
    Lock,
    /// Give a locked node its keys again.
    Unlock,
    /// Destroy the content of packets here for good: whoever has the disk cannot open them any more.
    Purge(purge::Purge),
    /// Which packets the loss of a key exposes, and what to do.
    Exposure(exposure::Asked),
    /// The audit log: mirror it, verify it, read it.
    Audit(Box<audit::Audit>),
    /// The release policy of this agency: write it, try it, publish it.
    Policy(Box<policy::Policy>),
    /// The region authority: found a region, admit and revoke members, replace keys.
    Region(Box<region::Region>),
}

/// How often the lock of the folder is tried: for 10 seconds.
const LOCK_TRIES_MAX: usize = 200;
/// Longest answer to a question at the terminal, bytes.
const ANSWER_BYTES_MAX: u64 = 64;
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
    let words: Vec<OsString> = args.into_iter().collect();
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let parsed = help::command().try_get_matches_from(words);
    let args = match parsed.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) if json && error.use_stderr() => {
            let text = error.render().to_string();
            let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            let failure = Failure::new(Code::Usage, message);
            complain(&failure, json);
            return failure.exit();
        }
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
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
    if let Command::Evidence(show) = &command
        && let Some(verify) = show.verification()
    {
        return evidence::verify(verify, json);
    }
    // Nor does whoever verifies files, or writes a policy.
    if let Command::Policy(policy) = command {
        return policy::run(*policy, data, key_file, json);
    }
    if let Command::Audit(audit) = command {
        return audit::run(*audit, data, key_file, json);
    }
    let data = data
        .ok_or_else(|| Failure::new(Code::Usage, "which data folder? give --data DIR, or set LINTAS_DATA"))?;
    let context = Context { folder: Folder::at(&absolute(&data)?), key_file, json };
    match command {
        Command::Init(init) => init::run(&context, &init),
        Command::Join(join) => join::run(&context, &join),
        Command::Run(run) => run::run(&context, &run),
        Command::Send(send) => send::run(&context, send),
        Command::Review(review) => review::run(&context, review),
        Command::Inbox(list) => inbox::run(&context, &list),
        Command::Show(show) => show::run(&context, show),
        Command::Evidence(show) => evidence::run(&context, show),
        Command::Outbox(list) => outbox::run(&context, &list),
        Command::Confirm(confirm) => confirm::run(&context, confirm),
        Command::Doctor => doctor::run(&context),
        Command::Exposure(asked) => exposure::run(&context, asked),
        Command::Status => status::run(&context),
        Command::Export(export) => export::run(&context, &export),
        Command::Region(_) | Command::Audit(_) | Command::Policy(_) => {
            Err(Failure::internal("a command without a node came too far"))
        }
        Command::Purge(purge) => purge::run(&context, purge),
        Command::Keys(keys) => keys::run(&context, keys),
        Command::Lock => lock::lock(&context),
        Command::Unlock => lock::unlock(&context),
    }
}

impl Context {
    /// Asks the daemon; when there is none, opens the folder and does it here.
    fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.ask_watching(request, &mut |_, _| {})
    }

    /// As [`ask`](Self::ask), and watches how far it is.
    fn ask_watching(&self, request: Request, watch: Watcher<'_>) -> Result<Reply, Failure> {
        self.folder.check()?;
        let lock = match self.daemon_or_lock(&request, watch)? {
            Either::Answer(answer) => return answer,
            Either::Lock(lock) => lock,
        };
        let desk = self.open(lock, false)?;
        let watch = RefCell::new(watch);
        let answer = desk.answer_telling(request, &|done, total| {
            (*watch.borrow_mut())(done, total);
            true
        });
        let closed = desk.close();
        answer.and_then(|reply| closed.map(|()| reply))
    }

    /// A daemon's answer, or the lock. Another command, or a daemon that starts or stops, is waited for.
    fn daemon_or_lock(&self, request: &Request, watch: Watcher<'_>) -> Result<Either, Failure> {
        let answer_or_lock = || match control::ask_watching(&self.folder, request, &mut *watch) {
            Some(answer) => Ok(Either::Answer(answer)),
            None => self.folder.lock().map(Either::Lock),
        };
        patiently(answer_or_lock, || sleep(LOCK_PAUSE))
    }

    /// The lock, for a daemon: commands that are at work are waited for.
    fn lock(&self) -> Result<Lock, Failure> {
        patiently(|| self.folder.lock(), || sleep(LOCK_PAUSE))
    }

    /// A yes on the terminal; without a terminal only `--yes` is one.
    fn confirm(&self, yes: bool, question: &str) -> Result<(), Failure> {
        use std::io::IsTerminal as _;
        if yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            let message =
                format!("{question} Nothing was done: there is no terminal to ask on; say yes with --yes");
            return Err(Failure::new(Code::Usage, message));
        }
        let _ = write!(std::io::stderr(), "{question} Type `yes` to go on: ");
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|error| Failure::new(Code::Usage, format_args!("no answer: {error}")))?;
        if line.trim() == "yes" { Ok(()) } else { Err(Failure::new(Code::Usage, "nothing was done")) }
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

/// Tries again and again, with a pause between, as long as another process has the folder.
fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, Failure>,
    mut pause: impl FnMut(),
) -> Result<T, Failure> {
    for _ in 1..LOCK_TRIES_MAX {
        match attempt() {
            Err(failure) if failure.code == Code::InUse => pause(),
            other => return other,
        }
    }
    attempt()
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

/// Asks the officer at the terminal; `instead` says what to do where there is none.
fn agree(question: &str, instead: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("{question}\nthere is no terminal to ask on: {instead}");
        return Err(Failure::new(Code::Usage, message));
    }
    // Beside the answer in JSON.
    let _ = write!(std::io::stderr(), "{} Type yes or no: ", printable(question).replace("\n    | ", "\n"));
    let mut line = String::new();
    std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line).map_err(Failure::internal)?;
    Ok(line.trim().eq_ignore_ascii_case("yes"))
}

/// An answer to another question; cannot happen between a command and a daemon of one version.
fn unexpected() -> Failure {
    Failure::internal("the answer is one to another question; is the running node of another version?")
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_folder_is_waited_for_ten_seconds() {
        let root = tempfile::TempDir::new().unwrap();
        let folder = Folder::at(root.path());
        // Given back at the end of the last pause, and then never.
        for (pauses_held, waits) in [(LOCK_TRIES_MAX - 1, true), (usize::MAX, false)] {
            let (mut held, mut pauses) = (Some(folder.lock().unwrap()), 0);
            let lock = patiently(
                || folder.lock(),
                || {
                    pauses += 1;
                    drop(held.take_if(|_| pauses >= pauses_held));
                },
            );
            assert_eq!((lock.is_ok(), pauses), (waits, LOCK_TRIES_MAX - 1));
            assert!(lock.is_ok() || lock.is_err_and(|failure| failure.code == Code::InUse));
        }
        let waited = LOCK_PAUSE * u32::try_from(LOCK_TRIES_MAX).unwrap();
        assert_eq!(waited, Duration::from_secs(10));
        let (mut tries, failure) = (0, || Failure::new(Code::Storage, "the disk"));
        let other = patiently::<()>(
            || {
                tries += 1;
                Err(failure())
            },
            || panic!("nothing to wait for"),
        );
        assert_eq!((other.unwrap_err().code, tries), (Code::Storage, 1));
    }
}
