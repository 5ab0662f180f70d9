//! The drills of docs/OPERATING.md, typed word for word.
//!
//! A line that does not stand in that section of the document is not typed, so that the document and the tests cannot
//! part. What stands in capitals there, and the example's paths, are replaced by what they mean here. All files lie in
//! one folder, as if each had been carried to where it is needed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    ROLE_BROKER, ROLE_NODE,
    authority::Authority,
    case,
    process::wait,
    region::{Region, Said, said},
};

/// How the section begins.
const SECTION: &str = "## Drills";

/// A region, its authority, and what the document says.
#[derive(Debug)]
pub struct Drill {
    /// The region.
    pub region: Region,
    /// Its authority; its folder is the one that files are carried to.
    pub authority: Authority,
    program: PathBuf,
    text: String,
}

impl Drill {
    /// Founds a region with these nodes; nothing runs yet.
    #[must_use]
    pub fn begin(program: &Path, root: &Path, nodes: &[&str]) -> Self {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
        let document = fs::read_to_string(document).unwrap();
        let from = document.find(SECTION).unwrap();
        let section = document.get(from + SECTION.len()..).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let region = Region::found(program, root, nodes);
        let authority = region.authority();
        // The founding is over.
        for name in ["proposal.bin", "proposal-signed-1.bin", "proposal-signed-2.bin"] {
            fs::remove_file(authority.path(name)).unwrap();
        }
        Self { region, authority, program: program.to_owned(), text: section.to_owned() }
    }

    /// Types a line of the document at the machine whose folder is `who`. `means` is what its capitals and paths mean
    /// here; `more` is what an officer answers when asked, e.g. `--yes`.
    pub fn step(&self, who: &str, line: &str, means: &[(&str, &str)], more: &[&str]) -> Said {
        let stands = |known: &str| known.split("  #").next().unwrap_or_default().trim() == line;
        assert!(self.text.lines().any(stands), "`{line}` does not stand in the drills of docs/OPERATING.md");
        let mut typed = line.replace("PUBLISHED", "published");
        for (sign, meaning) in means {
            assert!(typed.contains(sign), "`{sign}` does not stand in `{line}`");
            typed = typed.replace(sign, meaning);
        }
        let mut words = words(&typed).into_iter();
        let first = words.next().unwrap();
        let mut command = match first.as_str() {
            "lintas" => self.role(ROLE_NODE),
            "lintas-broker" => self.role(ROLE_BROKER),
            program => Command::new(program),
        };
        command.current_dir(self.authority.path("")).args(words).args(more);
        command.env("LINTAS_DATA", absolute(&self.region.folder(who)));
        said(command.env("LINTAS_KEY_FILE", absolute(&self.region.key_file(who))))
    }

    fn role(&self, role: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role);
        command
    }

    /// Carries a file to where commands are typed.
    pub fn carry(&self, from: &Path, name: &str) {
        fs::copy(from, self.authority.path(name)).unwrap();
    }

    /// Signs a proposal as the first two offices, publishes it, and puts it where the broker looks.
    pub fn enact(&self, proposal: &str) {
        self.authority.sign_and_publish(proposal, &[1, 2]);
        self.to_broker(&self.authority.published().join("directory.bin"));
    }

    /// Puts a directory where the broker looks, whole.
    pub fn to_broker(&self, directory: &Path) {
        let place = self.region.folder("broker").join("directory.bin");
        fs::copy(directory, place.with_extension("part")).unwrap();
        fs::rename(place.with_extension("part"), place).unwrap();
    }

    /// `lintas status` at `who`.
    #[must_use]
    pub fn status(&self, who: &str) -> Value {
        self.region.lintas(who, &["--json", "status"]).ok().json()
    }

    /// Waits until `who` has a session under that roster.
    pub fn is_up(&self, who: &str, roster: u64) {
        let up = |status: &Value| status["link"]["connected"] == true && status["roster_version"] == roster;
        assert!(wait(|| up(&self.status(who))), "{who}: {}", self.status(who));
    }

    /// `lintas send` of the sample alert at `who`, an agency with a unit of its own `from`.
    pub fn send(&self, who: &str, from: &str, to: &str) -> Said {
        let change = |alert: &mut Value| (alert["from"], alert["to"]) = (from.into(), vec![to].into());
        let draft = case::draft(&self.authority.path(""), "draft.json", change);
        self.region.lintas(who, &["--json", "send", &draft])
    }

    /// As [`send`](Self::send); the packet's id.
    pub fn sent(&self, who: &str, from: &str, to: &str) -> String {
        self.send(who, from, to).ok().json()["packet_id"].as_str().unwrap().to_owned()
    }

    /// Where the only recipient of a packet of `who` stands: `(state, why)`; empty while nothing is known.
    #[must_use]
    pub fn arrival(&self, who: &str, id: &str) -> (String, String) {
        let said = self.region.lintas(who, &["--json", "outbox"]).ok().json();
        let packets = said["packets"].as_array().cloned().unwrap_or_default();
        let packet = packets.into_iter().find(|packet| packet["packet_id"] == id).unwrap();
        // `released` only once the broker has it.
        if packet["state"] != "accepted" {
            return Default::default();
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&packet["recipients"][0]["state"]), text(&packet["recipients"][0]["why"]))
    }

    /// Waits until a packet of `who` stands so at its only recipient; why.
    pub fn stands(&self, who: &str, id: &str, state: &str) -> String {
        let arrived = wait(|| self.arrival(who, id).0 == state);
        assert!(arrived, "{who}: {id}: {:?}", self.arrival(who, id));
        self.arrival(who, id).1
    }

    /// Ids of what came to `who`, sorted.
    #[must_use]
    pub fn inbox(&self, who: &str) -> Vec<String> {
        let said = self.region.lintas(who, &["--json", "inbox"]).ok().json();
        ids(&said["packets"])
    }

    /// What `lintas region inspect` says of a carried file.
    #[must_use]
    pub fn inspect(&self, file: &str) -> Value {
        self.authority.lintas(&["--json", "region", "inspect", file]).ok().json()
    }

    /// The words of the new identity key, as its agency reads them out.
    #[must_use]
    pub fn new_words(&self) -> String {
        self.inspect("join-request.bin")["identity_key"]["words"].as_str().unwrap().to_owned()
    }
}

/// Packet ids of a list, sorted.
#[must_use]
pub fn ids(packets: &Value) -> Vec<String> {
    let packets = packets.as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> =
        packets.iter().map(|packet| packet["packet_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// A line as a shell splits it; quotes keep words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn absolute(path: &Path) -> OsString {
    std::path::absolute(path).unwrap().into()
}
