//! The region authority as it works: each office has a folder of its own, and files are carried between them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lintas_config::source::{mekong, mekong_files};
use lintas_proto::schema::Role;

use crate::{
    ROLE_NODE,
    region::{Said, said},
};

/// The authority of the sample region in a folder.
#[derive(Debug, Clone)]
pub struct Authority {
    program: PathBuf,
    root: PathBuf,
}

impl Authority {
    /// The authority at work in `root`; `program` is `lintas-demo`.
    #[must_use]
    pub fn at(program: &Path, root: &Path) -> Self {
        Self { program: program.to_owned(), root: absolute(root) }
    }

    /// Makes the offices' keys, each in its folder, and writes the sources of the sample region, with those of its
    /// members that `members` names. Of these, `witnesses` watch the log, which is published every `epoch_ms`.
    pub fn begin(&self, members: &[&str], witnesses: &[&str], epoch_ms: u32) {
        fs::create_dir_all(self.sources()).unwrap();
        let write = |name: &str, text: &str| {
            let path = self.sources().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let sample = mekong().unwrap().members;
        let mut agencies = sample.iter().filter(|member| member.roles.contains(&Role::Agency));
        let whole = agencies.all(|member| members.contains(&member.agency.as_str()));
        for (name, text) in mekong_files() {
            let agency = name.trim_end_matches(".toml").to_ascii_uppercase();
            if name == "region.toml" {
                write(name, &text.replace("epoch_ms = 10_000", &format!("epoch_ms = {epoch_ms}")));
            } else if name.contains('/') {
                // Cases name members; those of a part of the region would not all be there.
                if !name.ends_with("cases.toml") || whole {
                    write(name, text);
                }
            } else if members.contains(&agency.as_str()) {
                let watches = witnesses.contains(&agency.as_str());
                let text = text.replace("witness = true\n", "");
                let role = if watches { "\nwitness = true\nroles = " } else { "\nroles = " };
                write(name, &text.replace("\nroles = ", role));
            }
        }
        for (office, name) in (1..).zip(mekong().unwrap().authorities) {
            let _ = self.office(office, &["region", "office", "--name", &name]).ok();
        }
    }

    /// Founds the region: a draft of all requests, signed by the first two of three offices, and published.
    pub fn found(&self, broker: &Path, requests: &[PathBuf]) {
        let out = |name: &str| self.path(name).into_os_string();
        let mut draft: Vec<OsString> = vec!["region".into(), "draft".into(), "--sources".into()];
        draft.extend([self.sources().into(), "--broker".into(), absolute(broker).into(), "--office".into()]);
        draft.extend((1..=3).map(|office| self.public(office).into_os_string()));
        draft.push("--request".into());
        draft.extend(requests.iter().map(|path| absolute(path).into_os_string()));
        draft.extend(["--out".into(), out("proposal.bin")]);
        let _ = self.lintas(&draft).ok();
        self.sign_and_publish("proposal.bin", &[1, 2]);
    }

    /// Drafts a change of the directory in force, has the first two offices sign it, publishes it.
    pub fn enact(&self, name: &str, what: &[&str]) {
        let from = self.published().join("directory.bin");
        let mut change = ["region", "change", "--out", name, "--from"].map(OsStr::new).to_vec();
        change.push(from.as_os_str());
        change.extend(what.iter().map(OsStr::new));
        let _ = self.lintas(&change).ok();
        self.sign_and_publish(name, &[1, 2]);
    }

    /// Has these offices sign a proposal, in the order given, and publishes it.
    pub fn sign_and_publish(&self, proposal: &str, offices: &[usize]) {
        for office in offices {
            let _ = self.sign(*office, proposal).ok();
        }
        let signed: Vec<String> = offices.iter().map(|office| signed_name(proposal, *office)).collect();
        let signed: Vec<&str> = signed.iter().map(String::as_str).collect();
        let _ = self.publish(&signed).ok();
    }

    /// Has one office sign, as whoever has read the review.
    pub fn sign(&self, office: usize, proposal: &str) -> Said {
        let out = signed_name(proposal, office);
        let mut arguments: Vec<&OsStr> = ["region", "sign", "--yes"].map(OsStr::new).to_vec();
        let directory = self.published().join("directory.bin");
        if directory.exists() {
            arguments.extend([OsStr::new("--against"), directory.as_os_str()]);
        }
        // As an office that was compared by telephone.
        let bootstrap = self.published().join("bootstrap.toml");
        if bootstrap.exists() {
            arguments.extend([OsStr::new("--bootstrap"), bootstrap.as_os_str()]);
        }
        // Names of files beside the one who types them.
        arguments.extend([proposal, "--out", &out].map(OsStr::new));
        self.office(office, &arguments)
    }

    /// Publishes signed copies.
    pub fn publish(&self, signed: &[&str]) -> Said {
        let mut arguments: Vec<OsString> = vec!["region".into(), "publish".into()];
        arguments.extend(signed.iter().map(|name| self.path(name).into_os_string()));
        arguments.push("--office".into());
        let known = (1..=9).map(|office| self.public(office)).filter(|path| path.exists());
        arguments.extend(known.map(PathBuf::into_os_string));
        arguments.extend(["--out".into(), self.published().into()]);
        self.lintas(&arguments)
    }

    /// Runs `lintas` as somebody without a folder or a secret, in the authority's own folder.
    pub fn lintas<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Said {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.root).arg(ROLE_NODE).args(arguments);
        command.env_remove("LINTAS_DATA").env_remove("LINTAS_KEY_FILE");
        said(&mut command)
    }

    /// Runs `lintas` as an office, counted from 1.
    pub fn office<A: AsRef<OsStr>>(&self, office: usize, arguments: &[A]) -> Said {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.root)
            .arg(ROLE_NODE)
            .args(arguments)
            .env("LINTAS_DATA", self.folder(office));
        said(command.env("LINTAS_KEY_FILE", self.path(&format!("office-{office}.unlock"))))
    }

    /// A file that is carried around.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// An office's folder.
    #[must_use]
    pub fn folder(&self, office: usize) -> PathBuf {
        self.path(&format!("office-{office}"))
    }

    /// An office's public key.
    #[must_use]
    pub fn public(&self, office: usize) -> PathBuf {
        self.folder(office).join("authority.pub")
    }

    /// The readable sources.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.path("sources")
    }

    /// What is published.
    #[must_use]
    pub fn published(&self) -> PathBuf {
        self.path("published")
    }
}

/// Commands run in the authority's own folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap()
}

/// Name of an office's copy of a proposal.
#[must_use]
pub fn signed_name(proposal: &str, office: usize) -> String {
    format!("{}-signed-{office}.bin", proposal.trim_end_matches(".bin"))
}
