//! Plain words of the officer's commands.

use std::io::{IsTerminal as _, Write as _};

use crate::{
    core::{
        text::one_line,
        view::{PolicyVersion, PolicyView},
    },
    shell::clock::show as time,
};

/// Digits of a hash that are shown.
const HASH_DIGITS: usize = 16;
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Every version, the newest first.
pub(super) fn history(view: &PolicyView) -> String {
    let mut out = format!("release policy of {}: {}\n", view.agency, view.line());
    if let Some(heard_ms) = view.heard_ms {
        out.push_str(&format!("the broker said so {}\n", time(heard_ms)));
    }
    view.trouble.iter().for_each(|why| out.push_str(&format!("WARNING: {}\n", one_line(why))));
    for one in view.versions.iter().rev() {
        out.push_str(&version(one));
    }
    out
}

fn version(one: &PolicyVersion) -> String {
    let hash: String = one.hash.chars().take(HASH_DIGITS).collect();
    let here = standing(&one.here);
    let broker = one.at_broker.as_deref().map_or("not asked yet", standing);
    let note = if one.note.is_empty() { String::new() } else { format!("\n  {}", one_line(&one.note)) };
    format!(
        "version {}, from {}, hash {hash}, signed under certificate {}{note}\n  here: {here}; at the broker: {broker}\n",
        one.version,
        time(one.not_before_ms),
        one.certificate
    )
}

fn standing(word: &str) -> &'static str {
    match word {
        "in_force" => "IN FORCE",
        "to_come" => "not yet in force",
        "over" => "a newer one has taken its place",
        "missing" => "not there yet; a running node brings it",
        "refused" => "REFUSED",
        _ => "signed with keys that were replaced; never in force here",
    }
}

/// What is said when nothing is in force.
pub(super) fn nothing_in_force(owner: &str) -> String {
    format!(
        "No policy of {owner} is in force here, so nothing is released and nothing is accepted. To ask one that is not \
         published: --policy DIR\n\n"
    )
}

/// A text of lines in which nothing can move a cursor.
pub(super) fn safe(text: &str) -> String {
    lines(text, false)
}

/// A text of lines with outcomes in colour, on a terminal that shows colours; nothing else in it can move a cursor.
pub(super) fn coloured(text: &str) -> String {
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    lines(text, colours)
}

fn lines(text: &str, colours: bool) -> String {
    let line = |line: &str| {
        let line = one_line(line);
        let shades = [("does not go", RED), ("waits for review", YELLOW), (" goes", GREEN)];
        let found = shades.iter().filter(|_| colours).find(|(word, _)| line.contains(word));
        match found {
            Some((word, shade)) => format!("{}\n", line.replacen(word, &format!("{shade}{word}{PLAIN}"), 1)),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Beside the answer.
pub(super) fn aside(text: &str) {
    // Whoever reads may have gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_colours_and_nothing_else_moves_a_cursor() {
        let text = "KH/KH-AHT  goes  forbids nothing\nVN/VN-CID  does not go\u{1b}[2J  forbids\n";
        assert_eq!(
            lines(text, true),
            "KH/KH-AHT \u{1b}[32m goes\u{1b}[0m  forbids nothing\nVN/VN-CID  \u{1b}[31mdoes not go\u{1b}[0m\\u{1b}[2J  forbids\n"
        );
        assert_eq!(lines(text, false), text.replace('\u{1b}', "\\u{1b}"));
    }
}
