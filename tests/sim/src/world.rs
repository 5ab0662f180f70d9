//! The world: a broker, five nodes, their sessions, their machines, and an oracle that looks on.

pub mod chaos;
mod heal;
mod hub;
mod nodes;

use std::sync::Arc;

use lintas_broker::{
    core::earlier::{Earlier, Taken},
    sim::{AuditDisk, Settings, SimBroker},
};
use lintas_config::{Directory, policy::Policies};
use lintas_node::sim::{KeyFile, SimNode};

use crate::{
    Violation,
    dice::Dice,
    link::Link,
    machine::{Machine, limits},
    oracle::Oracle,
    region::{AGENCIES, BEGIN_MS, REGION, Region},
};

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sealed.
    pub sealed: usize,
    /// Of them durably admitted.
    pub admitted: usize,
    /// Packets in inboxes.
    pub delivered: usize,
    /// Crashes of the broker and of nodes.
    pub crashes: usize,
    /// Sessions that broke.
    pub cuts: usize,
    /// Clocks that jumped.
    pub jumps: usize,
    /// Hellos that were refused: a clock was in doubt.
    pub refused: usize,
    /// Changes of the roster and of policies.
    pub changes: usize,
    /// Evidence that its originator did not believe at first, and does now.
    pub believed_late: usize,
    /// Old segments that went.
    pub freed: u64,
    /// Epochs of the audit log.
    pub epochs: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.sealed += more.sealed;
        self.admitted += more.admitted;
        self.delivered += more.delivered;
        self.crashes += more.crashes;
        self.cuts += more.cuts;
        self.jumps += more.jumps;
        self.refused += more.refused;
        self.changes += more.changes;
        self.believed_late += more.believed_late;
        self.freed += more.freed;
        self.epochs += more.epochs;
    }
}

/// An agency's node, or its machine while the process is down.
#[derive(Debug)]
struct Node {
    machine: Machine,
    node: Option<SimNode>,
    /// The key file, while the process is down.
    file: Option<KeyFile>,
    directory: Arc<Directory>,
    policies: Arc<Policies>,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// One line for each event.
    pub log: Vec<String>,
    /// How much happened.
    pub counts: Counts,
    dice: Dice,
    /// For keys, nonces and salts.
    entropy: Dice,
    step: u32,
    true_ms: u64,
    region: Region,
    earlier: Earlier,
    settings: Settings,
    broker: Option<SimBroker>,
    hub: Machine,
    audit: AuditDisk,
    nodes: Vec<Node>,
    links: Vec<Option<Link>>,
    sessions: u64,
    oracle: Oracle,
}

impl World {
    /// Nobody runs yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let region = Region::new();
        let settings = Settings {
            secrets: region.broker.clone(),
            region: REGION.to_owned(),
            limits: limits(),
            submissions_per_minute: 30,
            queue_entries_max: 20,
            credit: 4,
        };
        let node = |agency: usize| {
            let (directory, policies) = region.for_node(agency);
            Node {
                machine: Machine::new(AGENCIES[agency], seed.wrapping_mul(8) + agency as u64),
                node: None,
                file: Some(region.files[agency].clone()),
                directory,
                policies,
            }
        };
        let nodes = (0..AGENCIES.len()).map(node).collect();
        let mut world = Self {
            log: Vec::new(),
            counts: Counts::default(),
            dice: Dice::new(seed, 1),
            entropy: Dice::new(seed, 2),
            step: 0,
            true_ms: BEGIN_MS,
            earlier: Earlier::default(),
            oracle: Oracle::new(seed, &settings.secrets.name),
            settings,
            broker: None,
            hub: Machine::new("hub", seed.wrapping_mul(8) + 7),
            audit: AuditDisk::default(),
            nodes,
            links: AGENCIES.iter().map(|_| None).collect(),
            sessions: 0,
            region,
        };
        world.directory_taken();
        world
    }

    /// Chaos for so many steps, then everything heals.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn run(&mut self, steps: u32) -> Result<(), Violation> {
        self.open_broker(false)?;
        for agency in 0..AGENCIES.len() {
            self.open_node(agency, false)?;
        }
        for step in 1..=steps {
            self.step = step;
            self.chaos()?;
        }
        self.heal()?;
        (self.counts.sealed, self.counts.admitted) = self.oracle.counts();
        Ok(())
    }

    fn say(&mut self, who: &str, what: &str) {
        let seconds = (self.true_ms - BEGIN_MS) / 1_000;
        self.log.push(format!("{:04} +{seconds}s {who}: {what}", self.step));
    }

    /// The broker has the directory in force; packets may name it from now on.
    fn directory_taken(&mut self) {
        let directory = self.region.rules.directory();
        self.earlier.take(Taken {
            hash: *directory.hash(),
            since_ms: self.hub.now_ms(self.true_ms),
            roster_version: directory.roster().version,
            cause: String::new(),
        });
    }

    /// A session breaks; what was under way is gone.
    fn cut(&mut self, agency: usize) {
        let Some(link) = self.links[agency].take() else { return };
        if let Some(broker) = &mut self.broker {
            broker.end_session(link.session);
        }
        if let Some(node) = &mut self.nodes[agency].node {
            node.disconnected();
        }
        let (up, down) = (link.up.length(), link.down.length());
        self.counts.cuts += 1;
        self.say(
            AGENCIES[agency],
            &format!("session {} is cut, {up} bytes up and {down} down are lost", link.session),
        );
    }

    /// A session begins, if both run and the roster lets the node in. The node fetches what is new.
    fn connect(&mut self, agency: usize) -> Result<(), Violation> {
        let ready = self.links[agency].is_none()
            && self.nodes[agency].node.is_some()
            && self.region.is_active(agency);
        if !ready {
            return Ok(());
        }
        self.sessions += 1;
        let (session, true_ms) = (self.sessions, self.true_ms);
        let theirs_ms = self.nodes[agency].machine.now_ms(true_ms);
        let greeted =
            self.work(|broker, hands| Ok(broker.hello(session, AGENCIES[agency], theirs_ms, hands)))?;
        let Some(agrees) = greeted else { return Ok(()) };
        self.with_node(agency, |node, hands| {
            node.answered(agrees, hands);
            Ok(())
        })?;
        if agrees {
            self.links[agency] = Some(Link::new(session));
            self.say(AGENCIES[agency], &format!("session {session} begins"));
        } else {
            self.counts.refused += 1;
            self.say(AGENCIES[agency], "its hello is refused: a clock is in doubt");
        }
        Ok(())
    }

    /// A node that is connected fetches the directory and its own policy, and judges again what it did not believe.
    fn renew(&mut self, agency: usize) -> Result<(), Violation> {
        if self.links[agency].is_some() {
            let (directory, policies) = self.region.for_node(agency);
            (self.nodes[agency].directory, self.nodes[agency].policies) = (directory, policies);
            self.judge_doubted(agency)?;
        }
        Ok(())
    }
}
