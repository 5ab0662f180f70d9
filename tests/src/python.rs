//! docs/examples/verify_log.py: the verifier that anybody can write from docs/AUDIT.md.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// A Python that has `cryptography`.
#[derive(Debug)]
pub struct Outsider(PathBuf);

impl Outsider {
    /// The interpreter of `LINTAS_PYTHON`, of the workspace's `.venv`, or of the system. `None`, loudly, where none has the
    /// package; with `LINTAS_NO_SKIP=1` that is a failure.
    #[must_use]
    pub fn find() -> Option<Self> {
        let named = std::env::var_os("LINTAS_PYTHON").map(PathBuf::from);
        let candidates = named.map_or_else(
            || vec![workspace().join(".venv/bin/python"), PathBuf::from("python3")],
            |named| vec![named],
        );
        let fits = |python: &PathBuf| {
            let check = Command::new(python).args(["-c", "import cryptography"]).output();
            check.is_ok_and(|output| output.status.success())
        };
        let found = candidates.into_iter().find(fits).map(Self);
        if found.is_none() {
            let missing = "no Python with `cryptography`; in the folder of the workspace run: \
                           python3 -m venv .venv && .venv/bin/pip install 'cryptography>=50'";
            tools::missing(missing);
        }
        found
    }

    /// Verifies a log with the keys of `regions`: the newest directory as `lintas region inspect` shows it, then earlier
    /// ones. What it printed, or why it refused.
    ///
    /// # Errors
    /// Its one line.
    pub fn verify(&self, log: &Path, regions: &[&Path]) -> Result<String, String> {
        let program = workspace().join("docs/examples/verify_log.py");
        let output = Command::new(&self.0).arg(program).arg(log).args(regions).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
