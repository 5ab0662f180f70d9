//! The peers' servers: started by `peers.sh`, and stopped by it whatever happens.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{bench::Bench, peers::Protocol};

const SCRIPT: &str = include_str!("../../../peers.sh");

/// The three, running.
pub(super) struct Servers {
    script: PathBuf,
    folder: PathBuf,
    /// What the script says about them.
    told: HashMap<String, String>,
}

impl Servers {
    /// Starts them with their data in `folder`; ends the run if one does not start.
    pub(super) fn start(bench: &Bench, folder: &Path) -> Self {
        // They run as users of their own, who go through these folders but read nothing in them.
        for folder in [&bench.work, folder] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let script = folder.join("peers.sh");
        fs::write(&script, SCRIPT).unwrap();
        let mut servers = Self { script, folder: folder.to_owned(), told: HashMap::new() };
        assert!(servers.runs("start", &[&std::process::id().to_string()]), "the peers do not start");
        let told = fs::read_to_string(folder.join("peers.env")).unwrap();
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        servers.told = told.lines().filter_map(pair).collect();
        servers
    }

    fn runs(&self, action: &str, more: &[&str]) -> bool {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(action).arg(&self.folder).args(more);
        command.status().is_ok_and(|status| status.success())
    }

    pub(super) fn address(&self, protocol: Protocol) -> SocketAddr {
        let port = self.told[&format!("{}_port", name(protocol))].parse().unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub(super) fn version(&self, protocol: Protocol) -> &str {
        &self.told[&format!("{}_version", name(protocol))]
    }

    pub(super) fn password(&self) -> &str {
        &self.told["password"]
    }

    /// Who signed their certificates.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if !self.runs("stop", &[]) {
            eprintln!(
                "peers: could not stop them; try: bash {} stop {}",
                self.script.display(),
                self.folder.display()
            );
        }
    }
}

/// What the script calls them.
fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::JetStream => "nats",
        Protocol::RabbitMq => "rabbitmq",
        Protocol::PostgreSql => "postgres",
    }
}
