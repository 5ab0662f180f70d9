//! A node as an agency runs it, in a region of the benchmark: its keys are its own, its inbox is durable.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use lintas_proto::{
    canonical, limits,
    schema::{JoinRequest, UnitRef},
};
use lintas_tests::{
    ROLE_NODE, policy,
    process::{Process, wait},
};

use crate::world::{cases, unit};

/// Says of each delivery when it was durable.
const LOG_LEVEL: &str = "info,lintas_node::shell::desk=debug";

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    root: PathBuf,
    /// Of the agency.
    pub(crate) unit: UnitRef,
    process: Option<Process>,
}

impl Node {
    /// Makes its keys as its agency would; the number of the agency is one that nobody else in the region has.
    pub(crate) fn init(
        program: &Path,
        root: &Path,
        number: usize,
        broker: SocketAddr,
    ) -> (Self, JoinRequest) {
        let node =
            Self { program: program.to_owned(), root: root.to_owned(), unit: unit(number), process: None };
        fs::write(node.key_file(), "5a".repeat(32)).unwrap();
        let UnitRef { agency, unit } = &node.unit;
        let described = format!("{unit}=Contact point, spoc");
        let (name, broker) = (format!("Police of {agency}"), broker.to_string());
        let typed = ["init", "--region", crate::world::REGION, "--agency", agency, "--name", &name];
        let more = ["--unit", &described, "--broker", &broker, "--identity-key-file"];
        let mut arguments: Vec<OsString> = typed.into_iter().chain(more).map(OsString::from).collect();
        arguments.push(node.root.join(format!("{agency}-identity.hex")).into());
        let _ = node.lintas(&arguments);
        let request = Bytes::from(fs::read(node.folder().join("join-request.bin")).unwrap());
        let request = canonical::decode(&request, limits::FRAME_BYTES_MAX).unwrap();
        (node, request)
    }

    /// Gives it the directory that its broker has, and has it sign a policy that takes everything; the signed bundle.
    pub(crate) fn join(&self, broker: &Path) -> Vec<u8> {
        for file in ["bootstrap.toml", "directory.bin"] {
            fs::copy(broker.join(file), self.folder().join(file)).unwrap();
        }
        let texts = self.root.join(format!("{}-policy", self.unit.agency));
        fs::create_dir_all(&texts).unwrap();
        fs::write(texts.join("policy.cedar"), policy::OPEN).unwrap();
        fs::write(texts.join("cases.toml"), cases(&self.unit.agency)).unwrap();
        let publish = ["policy", "publish", texts.to_str().unwrap(), "--yes"];
        let _ = self.lintas(&publish);
        fs::read(self.folder().join("policy/000001.bin")).unwrap()
    }

    /// Starts it and waits until it has a session with the broker.
    pub(crate) fn start(&mut self) {
        let (key, data) = (self.key_file(), self.folder());
        let arguments = [OsStr::new(ROLE_NODE), OsStr::new("--data"), data.as_os_str(), OsStr::new("run")];
        let environment = [("LINTAS_KEY_FILE", key.as_os_str()), ("LINTAS_LOG", OsStr::new(LOG_LEVEL))];
        let mut process = Process::start(&self.program, &arguments, &self.log(), &environment);
        assert!(process.wait_for("session open", 0), "the node does not start:\n{}", process.said());
        self.process = Some(process);
    }

    /// The running node.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        assert!(self.process.take().unwrap().terminate().success(), "the node did not end well");
    }

    /// Packets that it has made durable so far, in its order: when (nanoseconds since 1970) and which.
    pub(crate) fn kept(&self) -> Vec<(u64, String)> {
        let said = fs::read_to_string(self.log()).unwrap();
        said.lines().filter_map(kept).collect()
    }

    /// Waits until it has kept so many; false if it takes too long.
    pub(crate) fn has_kept(&self, count: usize) -> bool {
        wait(|| fs::read_to_string(self.log()).unwrap().matches(KEPT).count() >= count)
    }

    fn lintas<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let mut command = Command::new(&self.program);
        command
            .args([OsStr::new(ROLE_NODE), OsStr::new("--data"), self.folder().as_os_str()])
            .args(arguments);
        let output = command.env("LINTAS_KEY_FILE", self.key_file()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.unit.agency)
    }

    fn log(&self) -> PathBuf {
        self.root.join(format!("{}.log", self.unit.agency))
    }

    fn key_file(&self) -> PathBuf {
        self.root.join(format!("{}.unlock", self.unit.agency))
    }
}

/// What the node's log says of a delivery that is durable, before the packet's id.
const KEPT: &str = "delivery kept packet=";

/// Time and packet of a line that says so.
fn kept(line: &str) -> Option<(u64, String)> {
    let (before, packet) = line.split_once(KEPT)?;
    Some((nanoseconds(before.split_whitespace().next()?), packet.split_whitespace().next()?.to_owned()))
}

/// Nanoseconds since 1970 of an RFC 3339 time in UTC, as the log writes it: `2026-11-22T16:41:40.123456Z`.
fn nanoseconds(time: &str) -> u64 {
    let number = |from: usize, to: usize| time[from..to].parse::<u64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days from 1970 on, by the calendar's cycle of 400 years that begins in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    let fraction = time[19..].trim_start_matches('.').trim_end_matches('Z');
    seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_tells_time_and_packet() {
        let line =
            "2026-11-22T16:41:40.123456Z DEBUG lintas_node::shell::desk: delivery kept packet=ab-cd unit=x";
        assert_eq!(kept(line), Some((1_795_365_700_123_456_000, "ab-cd".to_owned())));
        assert_eq!(nanoseconds("1970-01-01T00:00:00.000001Z"), 1_000);
        assert_eq!(nanoseconds("2000-02-29T23:59:59.5Z"), 951_868_799_500_000_000);
        assert_eq!(kept("2026-11-22T16:41:40.123456Z  INFO lintas_node: node runs"), None);
    }
}
