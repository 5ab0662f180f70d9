//! `lintas --help`: the commands in the order in which a newcomer needs them.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Args;

/// Every command, under what it is for.
const GROUPS: [(&str, &[&str]); 6] = [
    ("To begin, and to look after the node", &["init", "join", "run", "status", "doctor"]),
    ("Every day", &["send", "review", "outbox", "inbox", "show", "evidence", "export", "confirm"]),
    ("Keys and safety", &["keys", "lock", "unlock", "purge", "exposure"]),
    ("What leaves the agency, and what it takes", &["policy"]),
    ("For auditors", &["audit"]),
    ("For the region authority", &["region"]),
];

/// What stands at the end of `lintas --help`, before the exit codes.
pub(super) const EXAMPLES: &str = "\
Examples:
  lintas init --help                                what a new agency needs
  lintas run                                        in one terminal, or as a service
  lintas send alert.json --attach photo.jpg --wait 30
  lintas policy explain alert.json                  to whom would it go, and why not to others
  lintas inbox --json                               for programs

Every command tells more with --help. Times are shown in UTC, with local time beside; in JSON they are milliseconds since
1970. With --json the answer is on standard output, and an error, with its exit code, is one object on standard error.

Secrets come from the key file (--key-file, LINTAS_KEY_FILE), else from the file that LINTAS_PASSPHRASE_FILE names, else
they are typed. NO_COLOR switches colours off. LINTAS_LOG=debug makes `lintas run` say more.

";

/// The command line, its commands grouped.
pub(super) fn command() -> Command {
    let command = Args::command();
    let (header, literal) = (*command.get_styles().get_header(), *command.get_styles().get_literal());
    let mut list = String::new();
    for (title, names) in GROUPS {
        // A string takes whatever is written to it.
        let _ = writeln!(list, "{header}{title}:{header:#}");
        for found in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = found.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(list, "  {literal}{:<8}{literal:#}  {about}", found.get_name());
        }
        list.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{header}Options:{header:#}\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_explains_itself() {
        let command = command();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        grouped.sort_unstable();
        known.sort_unstable();
        assert_eq!(grouped, known);
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("For the region authority:") && help.contains("Exit codes:"), "{help}");
        explained(&command);
    }

    /// Commands, options and words of a command all say what they are.
    fn explained(command: &Command) {
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let what = (command.get_name(), argument.get_id());
            assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 8), "{what:?}");
        }
        for inner in command.get_subcommands() {
            assert!(inner.get_about().is_some(), "{}", inner.get_name());
            explained(inner);
        }
    }
}
