//! Plain words, and texts of strangers made safe to print.

use lintas_proto::schema::Reason;

/// Escapes what could move a terminal's cursor, turn its direction or hide: control characters and invisible
/// formatting characters. Line breaks stay, each followed by a bar, so that no line of a stranger's text can be
/// taken for one of ours.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\n    | "),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// As [`printable`], on one line.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON text without raw characters that a terminal could act on; the same value all the same.
pub(crate) fn safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters (also C1), marks and overrides of direction, and invisible characters; but not the zero-width
/// space and joiners (U+200B to U+200D), with which Khmer, Burmese and Lao are written.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `bytes_max` bytes of `text`, whole characters.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > bytes_max {
            break;
        }
        out.push(c);
    }
    out
}

/// What a reason means, and what to do.
pub(crate) fn reason(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Unspecified => ("no reason was given", "ask the operator of the broker"),
        Reason::Accepted => ("accepted", "nothing is to be done"),
        Reason::Malformed => {
            ("the bytes are not a valid packet", "send it again; if that fails too, report it")
        }
        Reason::TooLarge => ("it is larger than allowed", "send less, or split it"),
        Reason::UnknownSender => {
            ("the sender is not known", "ask the region authority whether this agency is listed")
        }
        Reason::BadSignature => ("the signature does not fit", "compare the directories of both sides"),
        Reason::WrongRegion => ("it is for another region", "check which region the node belongs to"),
        Reason::StaleDirectory => ("the directory is too old", "fetch the newest directory, then send again"),
        Reason::UnknownRecipient => {
            ("a recipient is not known", "check the recipient in the newest directory, then send again")
        }
        Reason::Expired => ("its time to be delivered is over", "send it again if it still matters"),
        Reason::NotYetValid => ("it may not be delivered yet", "wait; the node tries again"),
        Reason::Replay => ("its id was used before for another packet", "send it again as a new packet"),
        Reason::Quota => (
            "a limit on what may be sent in a time, or be held for this agency, is reached",
            "wait; the node tries again",
        ),
        Reason::Policy => {
            ("a release policy forbids it", "ask your policy officer, or send it to those who may have it")
        }
        Reason::MissingAttachment => ("an attachment is missing", "wait; the node uploads it again"),
        Reason::DiskFull => ("there is no room to keep it", "wait; tell the operator"),
        Reason::CannotOpen => ("the recipient could not open it", "send it again with the newest directory"),
        Reason::Reseal => ("the recipient's key is out of date", "send it again with the newest directory"),
        Reason::ShuttingDown => ("the broker is shutting down", "wait; the node tries again"),
        Reason::MemberLeft => (
            "the region authority suspended or revoked the recipient before it was delivered",
            "ask the region authority; send it again if the agency comes back",
        ),
        Reason::Clock => ("the clocks differ too much", "set this machine's clock, then send again"),
    }
}

/// Why a broker does not let this node in, and what to do.
pub(crate) fn hello(code: Reason) -> (&'static str, &'static str) {
    let known = [
        (
            Reason::Clock,
            "the clocks of broker and node differ too much, or that of the broker is in doubt",
            "set this machine's clock; if it is right, tell the operator of the broker",
        ),
        (
            Reason::WrongRegion,
            "the broker serves another region",
            "check `broker` in node.toml, and which region this node was made for",
        ),
        (
            Reason::UnknownSender,
            "the broker does not know this agency by this node's key",
            "ask the region authority whether this agency is listed with the keys of this data folder",
        ),
        (Reason::Malformed, "broker and node are of different versions", "update the older one"),
    ];
    let found = known.into_iter().find(|(known, ..)| *known == code);
    found.map_or_else(|| reason(code), |(_, why, advice)| (why, advice))
}

/// What to do when nothing will be tried again by itself.
pub(crate) fn advice_at_last(code: Reason) -> &'static str {
    if matches!(
        code,
        Reason::NotYetValid
            | Reason::Quota
            | Reason::MissingAttachment
            | Reason::DiskFull
            | Reason::ShuttingDown
    ) {
        "send it again later"
    } else {
        reason(code).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_cannot_act_on_a_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7}\r\u{202e}b\u{200b}\nTo: all";
        for safe in [printable(hostile), one_line(hostile)] {
            assert!(!safe.chars().any(|c| is_unsafe(c) && c != '\n'), "{safe:?}");
        }
        assert!(printable(hostile).ends_with("\n    | To: all"));
        assert!(one_line(hostile).ends_with(r"\u{a}To: all"));
        assert_eq!(printable("ระนอง ភ្នំពេញ"), "ระนอง ភ្នំពេញ");
    }

    #[test]
    fn safe_json_is_the_same_json() {
        let value = serde_json::json!({ "text": "a\u{1b}\u{9b}\u{202e}\u{e0041}\n" });
        let safe = safe_json(&value.to_string());
        assert!(!safe.chars().any(is_unsafe), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    #[test]
    fn shortening_keeps_characters_whole() {
        assert_eq!(shorten("กข", 3), "ก");
        assert_eq!(shorten("กข", 5), "ก");
        assert_eq!(shorten("abc", 5), "abc");
    }
}
