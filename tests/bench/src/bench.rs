//! What every scenario has: a folder, a bound on time, and a way to say what it does.

use std::{path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// A run.
#[derive(Debug)]
pub(crate) struct Bench {
    /// This program, which also plays broker, nodes and load generators.
    pub(crate) program: PathBuf,
    /// On the disk that is to be measured; a scenario makes a folder of its own in it and removes it.
    pub(crate) work: PathBuf,
    /// How long one measurement may take; preparing and putting away come on top.
    pub(crate) seconds: u64,
    spinner: ProgressBar,
}

impl Bench {
    pub(crate) fn new(program: PathBuf, work: PathBuf, seconds: u64) -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap());
        Self { program, work, seconds, spinner }
    }

    /// How long one measurement may take.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Says on a terminal what is being done.
    pub(crate) fn says(&self, what: impl Into<String>) {
        self.spinner.set_message(what.into());
        self.spinner.tick();
    }

    /// Nothing is being done any more.
    pub(crate) fn quiet(&self) {
        self.spinner.finish_and_clear();
    }

    /// An empty folder for a scenario; it is removed when the value goes.
    pub(crate) fn folder(&self, name: &str) -> tempfile::TempDir {
        tempfile::Builder::new().prefix(name).tempdir_in(&self.work).unwrap()
    }
}
