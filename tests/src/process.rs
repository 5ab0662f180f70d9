//! Real processes: started, watched, ended politely or with kill -9.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

/// How long anything may take before the test gives up, in steps of [`STEP_MS`]: longer than a node needs that learns by
/// silence alone that its broker was killed, on a machine that is busy.
pub const PATIENCE_STEPS: u32 = 2_400;
/// One step of waiting, milliseconds.
pub const STEP_MS: u64 = 50;

/// A running process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output is added to `log`.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: &[A],
        log: &Path,
        environment: &[(&str, &OsStr)],
    ) -> Self {
        let open = || OpenOptions::new().create(true).append(true).open(log).unwrap();
        let out: File = open();
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(open())
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, and the processes before it with the same log.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `text` once more than `before` times; false if it ended or took too long.
    pub fn wait_for(&mut self, text: &str, before: usize) -> bool {
        wait(|| self.said().matches(text).count() > before || !self.is_running())
            && self.said().matches(text).count() > before
    }

    /// Memory that it holds now, bytes (`VmRSS` of Linux).
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory_kib("VmRSS:") * 1_024
    }

    /// The most memory that it has had at once, KiB (`VmHWM`).
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9: no destructor, no handler, nothing flushed.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.ends()
    }

    /// SIGHUP: look again now.
    pub fn hang_up(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn ends(mut self) -> ExitStatus {
        assert!(wait(|| !self.is_running()), "process {} does not end:\n{}", self.child.id(), self.said());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing outlives its test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`; false when it took too long.
pub fn wait(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..PATIENCE_STEPS {
        if done() {
            return true;
        }
        sleep(Duration::from_millis(STEP_MS));
    }
    done()
}
