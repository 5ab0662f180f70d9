//! What is done to the processes of a region: by name, `broker` or an agency's code, traced or not.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    process::ExitStatus,
};

use super::Region;
use crate::{
    ROLE_BROKER, ROLE_NODE,
    process::{Process, wait},
    trace::Trace,
};

/// What a broker says once it listens.
const LISTENS: &str = "listens on";
/// What a node says once it has its keys, its store and its socket.
const RUNS: &str = "node runs";
/// Exit code of a node whose folder another process has.
pub const IN_USE: i32 = 5;
/// How often a node is started anew while that is so.
const TRIES: u32 = 20;

impl Region {
    /// Starts the broker or a node, and waits until it works. Tries a node again while commands of its officer have the
    /// folder: they do what is asked of them themselves when no node runs.
    pub fn start(&mut self, name: &str) {
        let mut tries = (0..TRIES).map(|_| self.tries(name) || self.end_of(name).code() != Some(IN_USE));
        let done = tries.any(|done| done);
        let up = done && (self.nodes.contains_key(name) || self.broker.is_some() && name == "broker");
        assert!(up, "{name} does not start:\n{}", self.said(name));
    }

    fn role_of(&self, name: &str) -> [OsString; 4] {
        let data = self.folder(name).into_os_string();
        if name == "broker" {
            [ROLE_BROKER.into(), "run".into(), "--data".into(), data]
        } else {
            [ROLE_NODE.into(), "--data".into(), data, "run".into()]
        }
    }

    /// What the broker or a node has said.
    #[must_use]
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// Starts the broker or a node under strace. It may end at any time, also before it works.
    pub fn start_traced(&mut self, name: &str, trace: &Trace) {
        let mut arguments = trace.arguments();
        arguments.push(self.program.clone().into());
        arguments.extend(self.role_of(name));
        let key = self.key_file(name);
        let environment = [("LINTAS_KEY_FILE", key.as_os_str())];
        let process = Process::start(Path::new("strace"), &arguments, &self.log(name), &environment);
        self.runs(name, process);
    }

    /// Starts the broker or a node; whether it works. If not, it has ended.
    pub fn tries(&mut self, name: &str) -> bool {
        let (before, key) = (self.starts(name), self.key_file(name));
        let environment = [("LINTAS_KEY_FILE", key.as_os_str())];
        let process = Process::start(&self.program, &self.role_of(name), &self.log(name), &environment);
        self.runs(name, process);
        self.comes_up(name, before)
    }

    fn runs(&mut self, name: &str, process: Process) {
        if name == "broker" {
            self.broker = Some(process);
        } else {
            self.nodes.insert(name.to_owned(), process);
        }
    }

    /// Waits until what [`start_traced`](Self::start_traced) has started works; false if it ended before. `before` is what
    /// [`starts`](Self::starts) said before.
    pub fn comes_up(&mut self, name: &str, before: usize) -> bool {
        wait(|| self.starts(name) > before || self.has_ended(name)) && !self.has_ended(name)
    }

    /// How often the broker or a node has come up, by its log.
    #[must_use]
    pub fn starts(&self, name: &str) -> usize {
        self.said(name).matches(if name == "broker" { LISTENS } else { RUNS }).count()
    }

    /// Whether a process that was started has ended by itself.
    pub fn has_ended(&mut self, name: &str) -> bool {
        !self.process_mut(name).is_running()
    }

    /// Waits for the end of a process; how it ended.
    pub fn end_of(&mut self, name: &str) -> ExitStatus {
        self.take(name).ends()
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self, name: &str) -> ExitStatus {
        self.take(name).terminate()
    }

    /// kill -9, whether it still runs or not.
    pub fn kill(&mut self, name: &str) {
        self.take(name).kill_9();
    }

    /// kill -9 of whoever of them runs.
    pub fn kill_all(&mut self) {
        self.broker = None;
        self.nodes.clear();
    }

    fn process_mut(&mut self, name: &str) -> &mut Process {
        let known = if name == "broker" { self.broker.as_mut() } else { self.nodes.get_mut(name) };
        known.unwrap()
    }

    fn take(&mut self, name: &str) -> Process {
        let known = if name == "broker" { self.broker.take() } else { self.nodes.remove(name) };
        known.unwrap()
    }

    /// `lintas-broker check` of the broker's folder, in JSON.
    #[must_use]
    pub fn check(&self) -> super::Said {
        let folder = self.folder("broker");
        let arguments = ["--json", "check", "--data"].map(OsStr::new);
        self.run(ROLE_BROKER, &[&arguments[..], &[folder.as_os_str()]].concat())
    }

    /// Makes journals small, so that they are filled, moved and compacted within a test, and lets attachments take the
    /// last of a small disk. Before anything starts.
    pub fn is_small(&self) {
        for entry in fs::read_dir(&self.root).unwrap() {
            for name in ["broker.toml", "node.toml"] {
                let path = entry.as_ref().unwrap().path().join(name);
                if let Ok(text) = fs::read_to_string(&path) {
                    let own =
                        |line: &&str| !line.starts_with("segment_mib") && !line.starts_with("free_mib_min");
                    let small = ["segment_mib = 12", "free_mib_min = 0"].into_iter();
                    let lines: Vec<&str> = small.chain(text.lines().filter(own)).collect();
                    fs::write(path, lines.join("\n")).unwrap();
                }
            }
        }
    }
}
