//! A wrong clock for real processes, by libfaketime (Debian: `apt install faketime`).
//!
//! The library stands before libc's and moves what a process is told of the time. How far is read from a file at each
//! question, so that a clock jumps while its process runs. Only the clock of the wall moves, unless the test asks for
//! more: timers of QUIC run by the monotonic one, which no operator and no time service ever sets.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::tools;

/// One day, seconds.
pub const DAY: i64 = 24 * 60 * 60;

/// Where Debian puts the library for programs with threads.
const PLACES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];

/// The clock of one or more processes.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
    /// Whether the monotonic clock moves too, as if the time had really passed.
    passes: bool,
}

impl Clock {
    /// A clock that is right so far; `name` is its own under `root`. `None`, loudly, where the library is missing; with
    /// `LINTAS_NO_SKIP=1` that is a failure.
    #[must_use]
    pub fn find(root: &Path, name: &str) -> Option<Self> {
        let place = |folder: &&str| Path::new(folder).join("faketime/libfaketimeMT.so.1");
        let Some(library) = PLACES.iter().map(place).find(|library| library.exists()) else {
            tools::missing("no libfaketime; as root: apt-get install faketime");
            return None;
        };
        let clock = Self { library, file: root.join(format!("{name}.clock")), passes: false };
        clock.set(0);
        Some(clock)
    }

    /// The same, but time passes: the monotonic clock moves as well. To be moved forwards only.
    #[must_use]
    pub fn that_passes(self) -> Self {
        Self { passes: true, ..self }
    }

    /// Moves the clock to `seconds` from the right time.
    pub fn set(&self, seconds: i64) {
        let part = self.file.with_extension("part");
        fs::write(&part, format!("{seconds:+}\n")).unwrap();
        fs::rename(part, &self.file).unwrap();
    }

    /// What a process finds in its environment that is to have this clock.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let monotonic = if self.passes { "0" } else { "1" };
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", monotonic.into()),
            // Times of files are those of the disk.
            ("NO_FAKE_STAT", "1".into()),
            ("TZ", "UTC".into()),
        ]
    }
}
