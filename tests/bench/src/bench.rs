//! What every scenario has: a folder, a bound on time, and a way to say what it does.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A run.
#[derive(Debug)]
pub(crate) struct Bench {
    /// This program, which also plays broker, nodes and load generators.
    pub(crate) program: PathBuf,
    /// On the disk that is to be measured; a scenario makes folders of its own in it.
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

    /// An empty folder for a scenario. It is removed at the end of the run, not before: for minutes after many files were
    /// deleted ext4 takes long to make new ones, and then what comes next would be measured wrong.
    pub(crate) fn folder(&self, name: &str) -> Folder {
        Folder(tempfile::Builder::new().prefix(name).tempdir_in(&self.work).unwrap().keep())
    }
}

/// A scenario's folder.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}
