//! tests/independent/verify.go: a verifier of audit logs that shares no code with Lintas. It stands on
//! `golang.org/x/mod/sumdb`, from Debian's packages `golang-go` and `golang-golang-x-mod-dev`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::tools;

/// Where Debian puts packages of Go.
const GOPATH: &str = "/usr/share/gocode";
/// What it stands on.
const SUMDB: &str = "src/golang.org/x/mod/sumdb/tlog";
/// Longest time that a log of a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The verifier, compiled.
#[derive(Debug, Clone)]
pub struct Independent(PathBuf);

/// The keys of a log, as `lintas region inspect` gives them.
#[derive(Debug, Clone)]
pub struct LogKeys {
    /// The log's own.
    pub log: String,
    /// How many of the witnesses must have cosigned.
    pub quorum: usize,
    /// Those of the witnesses.
    pub witnesses: Vec<String>,
}

impl Independent {
    /// Compiles it, once a process, into `scratch`. `None`, loudly, where there is no Go with x/mod; with
    /// `LINTAS_NO_SKIP=1` that is a failure.
    #[must_use]
    pub fn find(scratch: &Path) -> Option<Self> {
        static FOUND: OnceLock<Option<Independent>> = OnceLock::new();
        FOUND.get_or_init(|| build(scratch)).clone()
    }

    /// Verifies the folder of a log: what it printed, or why it refused.
    ///
    /// # Errors
    /// Its one line.
    pub fn verify(&self, folder: &Path, keys: &LogKeys) -> Result<String, String> {
        let mut command = Command::new(&self.0);
        command.arg(folder).arg(&keys.log).arg(keys.quorum.to_string()).args(&keys.witnesses);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        // It prints one line, which a pipe takes without a reader.
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the verifier does not end on {}", folder.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        match output.status.code() {
            Some(0) => Ok(text(output.stdout)),
            Some(1) => Err(text(output.stderr)),
            other => panic!("the verifier ended with {other:?}: {}", text(output.stderr)),
        }
    }
}

fn build(scratch: &Path) -> Option<Independent> {
    let go = std::env::var_os("LINTAS_GO").unwrap_or_else(|| "go".into());
    let has_go = Command::new(&go).arg("version").output().is_ok_and(|output| output.status.success());
    if !has_go || !Path::new(GOPATH).join(SUMDB).is_dir() {
        let missing = "no Go with x/mod: apt-get install golang-go golang-golang-x-mod-dev";
        tools::missing(missing);
        return None;
    }
    // Tests of several programs may compile it at once.
    let folder = scratch.join(format!("independent-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("verify");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("independent/verify.go");
    let mut command = Command::new(&go);
    command.args(["build", "-o"]).arg(&program).arg(source).env("GOCACHE", scratch.join("go-cache"));
    command.envs([("GO111MODULE", "off"), ("GOPATH", GOPATH), ("CGO_ENABLED", "0"), ("GOFLAGS", "")]);
    let built = command.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(Independent(program))
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// All files under a folder, sorted.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
