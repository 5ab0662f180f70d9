//! Settings of broker and node: one TOML file each, in their data folder.
//!
//! Every key stands once, in [`BROKER_KEYS`] or [`NODE_KEYS`], with its explanation; the templates that `init` writes
//! are made of them. Unknown keys are refused, with the one that was probably meant; bad values are told what is
//! allowed.

use std::{fmt::Write as _, net::SocketAddr, ops::RangeInclusive};

use serde::Serialize;
use thiserror::Error;

use crate::document::{Document, FileError, Section};

/// A settings file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct SettingsError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl From<FileError> for SettingsError {
    fn from(FileError { line, problem, .. }: FileError) -> Self {
        Self { line, problem }
    }
}

/// One key of a settings file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name.
    pub name: &'static str,
    /// What happens without it, as TOML; `None` if it must be there; `Some("")` if it is off.
    pub default: Option<&'static str>,
    /// A value, as TOML.
    pub example: &'static str,
    /// What it does, its unit and its range.
    pub says: &'static str,
}

/// The keys of `broker.toml`.
pub const BROKER_KEYS: [Key; 10] = [
    Key {
        name: "listen",
        default: None,
        example: "\"0.0.0.0:7411\"",
        says: "Address and UDP port to listen on. 0.0.0.0 listens on every address of this machine.",
    },
    Key {
        name: "credit",
        default: Some("256"),
        example: "256",
        says: "How many deliveries a node may leave unacknowledged: 1 to 1,024.",
    },
    Key {
        name: "queue_entries_max",
        default: Some("100000"),
        example: "100000",
        says: "How many packets and pieces of evidence may wait for one agency: 1 to 10,000,000. Beyond it, packets \
               to that agency are refused, with the reason, until it has taken some. Packets of one sender may \
               take a fifth of it.",
    },
    Key {
        name: "submissions_per_minute",
        default: Some("6000"),
        example: "6000",
        says: "How many packets one agency may submit in a minute, at once or spread over it: 1 to 10,000,000, or 0 \
               for no limit. A packet that is sent again, and acknowledgements, are not counted.",
    },
    SEGMENT_MIB,
    Key {
        name: "journal_mib_max",
        default: Some("65536"),
        example: "65536",
        says: "How much disk the journal may take, in MiB: at least 8 segments (of segment_mib, or 16 if that is \
               less), at most 16,777,216. Beyond it packets are refused until deliveries have made room; what \
               waits is still delivered. Attachments are not part of it.",
    },
    Key {
        name: "attachments_mib_max",
        default: Some("131072"),
        example: "131072",
        says: "How much disk the attachments of one agency may take here, in MiB, those that are still on their way \
               with their full length: 1 to 16,777,216. Beyond it that agency's uploads are put off until earlier \
               packets were delivered.",
    },
    Key {
        name: "free_mib_min",
        default: Some("1024"),
        example: "1024",
        says: "How much of the disk attachments leave free, in MiB: 0 to 16,777,216. Below it uploads are put off \
               until there is room.",
    },
    Key {
        name: "metrics",
        default: Some(""),
        example: "\"127.0.0.1:7412\"",
        says: "Address and TCP port where this machine itself (127.0.0.1 or [::1], no other) can ask for metrics and \
               health over HTTP. Without it there is no such port.",
    },
    LOG,
];

/// The keys of `node.toml`.
pub const NODE_KEYS: [Key; 6] = [
    Key {
        name: "broker",
        default: None,
        example: "\"203.0.113.7:7411\"",
        says: "Address and UDP port of the broker. Who it is, is checked with its key in the directory.",
    },
    SEGMENT_MIB,
    Key {
        name: "attachments_mib_max",
        default: Some("1048576"),
        example: "1048576",
        says: "How much disk the attachments in the folder `blobs` may take, in MiB: 1 to 16,777,216. Beyond it \
               packets with attachments stay with the broker, and none can be sent.",
    },
    Key {
        name: "free_mib_min",
        default: Some("1024"),
        example: "1024",
        says: "How much of the disk attachments leave free, in MiB: 0 to 16,777,216. Below it packets with \
               attachments stay with the broker, and none can be sent.",
    },
    Key {
        name: "lock_after_minutes",
        default: Some("0"),
        example: "60",
        says: "After so many minutes without a command (`lintas status` does not count) the node locks itself: it drops \
               its keys and neither sends nor receives until `lintas unlock`. Up to 10,080, a week; 0 for never.",
    },
    LOG,
];

const SEGMENT_MIB: Key = Key {
    name: "segment_mib",
    default: Some("64"),
    example: "64",
    says: "Size of a journal segment in MiB: 1 to 1,024.",
};
const LOG: Key = Key {
    name: "log",
    default: Some("\"text\""),
    example: "\"json\"",
    says: "How the log is written: \"text\" for people, \"json\" with one object a line.",
};
const RANGE_1024: RangeInclusive<u32> = 1..=1_024;
const RANGE_TEN_MILLION: RangeInclusive<u32> = 1..=10_000_000;
const DEFAULT_SEGMENT_MIB: u32 = 64;
/// Shortest segment that a broker makes, MiB: its records are long.
const BROKER_SEGMENT_MIB_MIN: u32 = 16;
/// Fewest segments of a broker's journal: less leaves no room for its reserve and for compaction.
const BROKER_SEGMENTS_MIN: u32 = 8;
const JOURNAL_MIB_MAX: u32 = 16_777_216;
const ATTACHMENTS_MIB: RangeInclusive<u32> = 1..=16_777_216;
const FREE_MIB: RangeInclusive<u32> = 0..=16_777_216;
/// See `free_mib_min`.
pub const DEFAULT_FREE_MIB: u32 = 1_024;
/// 128 GiB, one agency's share of a broker.
const BROKER_ATTACHMENTS_MIB: u32 = 131_072;
/// `attachments_mib_max` of a node, 1 TiB: it keeps what it received.
pub const NODE_ATTACHMENTS_MIB: u32 = 1_048_576;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `broker.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerSettings {
    /// Address and UDP port to listen on.
    pub listen: SocketAddr,
    /// How many deliveries a node may leave unacknowledged, 1 to 1,024.
    pub credit: u32,
    /// How many packets may wait for one agency, 1 to 10,000,000.
    pub queue_entries_max: u32,
    /// How many packets one agency may submit in a minute; 0 for no limit.
    pub submissions_per_minute: u32,
    /// Size of a journal segment in MiB, 1 to 1,024.
    pub segment_mib: u32,
    /// How much disk the journal may take, MiB: 8 segments or more.
    pub journal_mib_max: u32,
    /// How much disk the attachments of one agency may take, MiB.
    pub attachments_mib_max: u32,
    /// How much of the disk attachments leave free, MiB.
    pub free_mib_min: u32,
    /// Loopback address for metrics and health over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// How the log is written.
    pub log: LogFormat,
}

/// `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSettings {
    /// Address and UDP port of the broker.
    pub broker: SocketAddr,
    /// Size of a journal segment in MiB, 1 to 1,024.
    pub segment_mib: u32,
    /// How much disk all attachments may take, MiB.
    pub attachments_mib_max: u32,
    /// How much of the disk attachments leave free, MiB.
    pub free_mib_min: u32,
    /// After how many minutes without a command the node locks itself, up to 10,080; 0 for never.
    pub lock_after_minutes: u32,
    /// How the log is written.
    pub log: LogFormat,
}

impl BrokerSettings {
    /// Reads TOML text.
    ///
    /// # Errors
    /// [`SettingsError`] with the line, what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let document = Document::parse("broker.toml", text)?;
        let top = document.top(&BROKER_KEYS.map(|key| key.name))?;
        let segment_mib = number(&top, "segment_mib", RANGE_1024, DEFAULT_SEGMENT_MIB)?;
        let journal_mib_min = BROKER_SEGMENTS_MIN * segment_mib.max(BROKER_SEGMENT_MIB_MIN);
        Ok(Self {
            listen: address(&top, "listen", BROKER_KEYS[0].example, |_| true, ANY_ADDRESS)?,
            credit: number(&top, "credit", RANGE_1024, 256)?,
            queue_entries_max: number(&top, "queue_entries_max", RANGE_TEN_MILLION, 100_000)?,
            submissions_per_minute: number(&top, "submissions_per_minute", 0..=10_000_000, 6_000)?,
            segment_mib,
            journal_mib_max: number(&top, "journal_mib_max", journal_mib_min..=JOURNAL_MIB_MAX, 65_536)?,
            attachments_mib_max: number(
                &top,
                "attachments_mib_max",
                ATTACHMENTS_MIB,
                BROKER_ATTACHMENTS_MIB,
            )?,
            free_mib_min: number(&top, "free_mib_min", FREE_MIB, DEFAULT_FREE_MIB)?,
            metrics: match top.get("metrics") {
                Some(_) => {
                    Some(address(&top, "metrics", "", |address| address.ip().is_loopback(), LOOPBACK)?)
                }
                None => None,
            },
            log: log(&top)?,
        })
    }

    /// Size of the segments that a broker makes, MiB.
    #[must_use]
    pub fn broker_segment_mib(&self) -> u32 {
        self.segment_mib.max(BROKER_SEGMENT_MIB_MIN)
    }

    /// How many segment files its journal may have.
    #[must_use]
    pub fn segments_max(&self) -> u32 {
        (self.journal_mib_max / self.broker_segment_mib()).max(BROKER_SEGMENTS_MIN)
    }

    /// A `broker.toml` that sets `listen` and explains every key.
    #[must_use]
    pub fn template(listen: SocketAddr) -> String {
        template("broker", &BROKER_KEYS, &format!("\"{listen}\""))
    }
}

impl NodeSettings {
    /// Reads TOML text.
    ///
    /// # Errors
    /// [`SettingsError`] with the line, what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let document = Document::parse("node.toml", text)?;
        let top = document.top(&NODE_KEYS.map(|key| key.name))?;
        Ok(Self {
            broker: address(
                &top,
                "broker",
                NODE_KEYS[0].example,
                |address| address.port() != 0,
                ANY_ADDRESS,
            )?,
            segment_mib: number(&top, "segment_mib", RANGE_1024, DEFAULT_SEGMENT_MIB)?,
            attachments_mib_max: number(&top, "attachments_mib_max", ATTACHMENTS_MIB, NODE_ATTACHMENTS_MIB)?,
            free_mib_min: number(&top, "free_mib_min", FREE_MIB, DEFAULT_FREE_MIB)?,
            lock_after_minutes: number(&top, "lock_after_minutes", 0..=10_080, 0)?,
            log: log(&top)?,
        })
    }

    /// A `node.toml` that sets `broker` and explains every key.
    #[must_use]
    pub fn template(broker: SocketAddr) -> String {
        template("node", &NODE_KEYS, &format!("\"{broker}\""))
    }
}

const ANY_ADDRESS: &str =
    "must be an IP address and a port in quotes, e.g. \"192.0.2.1:7411\" or \"[2001:db8::1]:7411\"";
const LOOPBACK: &str = "must be an address of this machine itself and a port in quotes, e.g. \"127.0.0.1:7412\": metrics tell who \
     writes how much, and are for the operator only";

fn address(
    top: &Section<'_>,
    key: &'static str,
    such_as: &str,
    allowed: impl Fn(&SocketAddr) -> bool,
    must: &'static str,
) -> Result<SocketAddr, FileError> {
    top.need(key, such_as)?.text(|text| text.parse().ok().filter(|found| allowed(found)).ok_or(must))
}

fn number(
    top: &Section<'_>,
    key: &'static str,
    range: RangeInclusive<u32>,
    default: u32,
) -> Result<u32, FileError> {
    top.get(key).map_or(Ok(default), |entry| entry.number(range))
}

fn log(top: &Section<'_>) -> Result<LogFormat, FileError> {
    let known = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    top.get("log").map_or(Ok(LogFormat::default()), |entry| entry.one_of(&known))
}

/// The required key comes first and is set; every other stands as a comment with its default.
fn template(whose: &str, keys: &[Key], required: &str) -> String {
    let mut out = format!(
        "# Settings of this {whose}. A line that begins with # is a comment; keys that stand in\n\
                           # comments show what holds without them. Restart the {whose} after a change.\n"
    );
    for key in keys {
        out.push('\n');
        for line in wrapped(key.says, 98) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = match key.default {
            None => writeln!(out, "{} = {required}", key.name),
            Some("") => writeln!(out, "# {} = {}", key.name, key.example),
            Some(default) => writeln!(out, "# {} = {default}", key.name),
        };
    }
    out
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests;
