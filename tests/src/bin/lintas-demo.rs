//! `lintas-demo`: a region of real processes on this machine, and a real alert crossing a border.
//!
//! Exit codes: 0 everything was as it must be; 1 something differed; 2 wrong use.

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, process::ExitCode};

use lintas_tests::{demo, role};

const USAGE: &str = "\
usage: lintas-demo [--keep] [--dir FOLDER]

Plays a case between Thailand, Cambodia and the regional coordinator with real processes on loopback.
  --keep        leave the region running afterwards and say how to try the commands (on a terminal)
  --dir FOLDER  keep its data in FOLDER, which must be empty or not exist
                (default: a temporary folder, removed at the end)";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = role(&arguments) {
        return code;
    }
    let (mut keep, mut folder) = (false, None);
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let wrong = match argument.to_str() {
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some("--keep") => {
                keep = true;
                !std::io::stdin().is_terminal()
            }
            Some("--dir") => {
                folder = rest.next().map(PathBuf::from);
                folder.is_none()
            }
            _ => true,
        };
        if wrong {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    play(keep, folder)
}

fn play(keep: bool, folder: Option<PathBuf>) -> ExitCode {
    let temporary = match tempfile::Builder::new().prefix("lintas-demo-").tempdir() {
        Ok(temporary) => temporary,
        Err(error) => return fail(&format!("no temporary folder: {error}")),
    };
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return fail(&format!("{} is not empty; choose another folder", folder.display()));
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail(&format!("this program cannot find itself: {error}")),
    };
    let mut region = match demo::play(&program, &folder, &mut demo::Teller::default()) {
        Ok(region) => region,
        Err(difference) => return fail(&difference),
    };
    if keep {
        wait_for_the_user(&program, &folder);
    }
    let mut stopped = demo::NODES.map(|node| region.stop_node(node)).to_vec();
    stopped.push(region.stop_broker());
    if stopped.contains(&false) {
        return fail("a process did not end cleanly");
    }
    println!("\nEverything was as it must be. The processes have ended cleanly.");
    ExitCode::SUCCESS
}

fn wait_for_the_user(program: &std::path::Path, folder: &std::path::Path) {
    println!("\nThe region runs on. In another terminal:\n");
    println!("  alias lintas='{} {}'", program.display(), lintas_tests::ROLE_NODE);
    for (who, agency) in [("the officer in Phnom Penh", "KH"), ("the officer in Ranong", "TH")] {
        println!("\n  # as {who}");
        println!("  export LINTAS_DATA={0}/{agency} LINTAS_KEY_FILE={0}/{agency}.unlock", folder.display());
    }
    println!("\nThen try: lintas inbox, lintas outbox, lintas status.\nPress Enter here to stop the region.");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

fn fail(difference: &str) -> ExitCode {
    eprintln!("\nSomething differed: {difference}");
    ExitCode::from(1)
}
