//! strace around a process: every system call is a place where it can be killed or where the disk can fail, without a
//! line in the product for it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// Calls after which something is to be on the disk. The last one is sled's, which alone uses it.
pub const SYNCS: &str = "fsync,fdatasync,syncfs,sync_file_range,msync";

/// What strace is to do to a process. It counts the calls of each thread apart.
#[derive(Debug, Clone)]
pub struct Trace {
    calls: String,
    inject: Option<String>,
    path: Option<PathBuf>,
    log: PathBuf,
}

/// Whether strace is there and may trace; says loudly if not.
#[must_use]
pub fn is_there() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        tools::missing("no strace that may trace; Debian: apt install strace");
    }
    works
}

impl Trace {
    /// kill -9 just as a thread makes its `nth` call of that name, from 1.
    #[must_use]
    pub fn kill(call: &str, nth: u64, log: &Path) -> Self {
        let inject = Some(format!("{call}:signal=KILL:when={nth}"));
        Self { calls: call.to_owned(), inject, path: None, log: log.to_owned() }
    }

    /// The `nth` sync of `path` by a thread fails with EIO and does nothing, from 1.
    #[must_use]
    pub fn sync_fails(path: &Path, nth: u64, log: &Path) -> Self {
        let inject = Some(format!("{SYNCS}:error=EIO:when={nth}"));
        Self { calls: SYNCS.to_owned(), inject, path: Some(path.to_owned()), log: log.to_owned() }
    }

    /// Only writes down which files are synced.
    #[must_use]
    pub fn syncs(log: &Path) -> Self {
        Self { calls: SYNCS.to_owned(), inject: None, path: None, log: log.to_owned() }
    }

    /// The arguments of strace in front of a program. With `-D` the program is our own child, and strace its tracer.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["-D", "-f", "-y", "-qq", "-s", "0", "-e"].map(OsString::from).into();
        arguments.push(format!("trace={}", self.calls).into());
        arguments.extend(["-e".into(), "signal=none".into()]);
        if let Some(inject) = &self.inject {
            arguments.extend(["-e".into(), format!("inject={inject}").into()]);
        }
        if let Some(path) = &self.path {
            arguments.extend(["-P".into(), path.into()]);
        }
        arguments.extend(["-o".into(), self.log.clone().into_os_string(), "--".into()]);
        arguments
    }

    /// Whether a call was made to fail.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        fs::read_to_string(&self.log).unwrap_or_default().contains("(INJECTED)")
    }

    /// What was synced, in the order of the first time, and the most often by one thread.
    #[must_use]
    pub fn synced(&self) -> Vec<(PathBuf, u64)> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut counts: Vec<(PathBuf, Vec<(String, u64)>)> = Vec::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let path = call.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            // The second half of a call that another thread interrupted names no file.
            let Some((path, _)) = path.filter(|_| !call.trim_start().starts_with("<...")) else { continue };
            let path = PathBuf::from(path);
            let place = counts.iter().position(|(known, _)| *known == path).unwrap_or_else(|| {
                counts.push((path, Vec::new()));
                counts.len() - 1
            });
            let threads = &mut counts[place].1;
            match threads.iter_mut().find(|(known, _)| known == thread) {
                Some((_, count)) => *count += 1,
                None => threads.push((thread.to_owned(), 1)),
            }
        }
        let most =
            |threads: Vec<(String, u64)>| threads.into_iter().map(|(_, count)| count).max().unwrap_or(0);
        counts.into_iter().map(|(path, threads)| (path, most(threads))).collect()
    }
}
