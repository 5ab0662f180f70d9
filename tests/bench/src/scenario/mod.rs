//! What is measured.

mod attachment;
mod attack;
mod audit;
mod disk;
mod fanout;
mod growth;
pub(crate) mod idle;
mod inbox;
mod latency;
mod limits;
mod peers;
mod policy;
mod reopen;
mod stock;
mod submit;

use crate::{bench::Bench, report::Outcome};

/// One scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// One line for `--help`.
    pub(crate) says: &'static str,
    pub(crate) run: fn(&Bench) -> Outcome,
}

/// All of them, in the order in which `all` runs them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "limits",
        says: "what the machine can do: signatures, fdatasync, QUIC, and a bare server of these three",
        run: limits::run,
    },
    Scenario {
        name: "submit",
        says: "durable accepts in a second, 1 and 8 connections with 64 in flight",
        run: submit::run,
    },
    Scenario {
        name: "latency",
        says: "how long an accept takes at 1,000/s and at other paces",
        run: latency::run,
    },
    Scenario {
        name: "inbox",
        says: "from the sender to the recipient's inbox, durable there",
        run: inbox::run,
    },
    Scenario { name: "fanout", says: "one packet to 1, 10, 100 recipients", run: fanout::run },
    Scenario {
        name: "attachment",
        says: "a file of 4 GiB between two nodes: sealed, up, down",
        run: attachment::run,
    },
    Scenario {
        name: "idle",
        says: "1,000 idle connections: the broker's memory, and the latency of others",
        run: idle::run,
    },
    Scenario {
        name: "attack",
        says: "accepts of an honest member while others attack, and how soon 200 revoked are disconnected",
        run: attack::run,
    },
    Scenario {
        name: "reopen",
        says: "from kill -9 until the broker listens again, per million live packets",
        run: reopen::run,
    },
    Scenario {
        name: "policy",
        says: "decisions of 5,000 agencies with 10,000 policies: cold, remembered, after a change; memory",
        run: policy::run,
    },
    Scenario {
        name: "audit",
        says: "what the audit log costs the broker, and how fast an auditor verifies a million entries",
        run: audit::run,
    },
    Scenario { name: "disk", says: "disk taken by a packet, and after all were delivered", run: disk::run },
    Scenario {
        name: "growth",
        says: "whether anything gets slower as the store grows: 10,000 to 1,000,000 packets",
        run: growth::run,
    },
    Scenario {
        name: "peers",
        says: "the same beside NATS JetStream, RabbitMQ and PostgreSQL, each durable (feature `peers`)",
        run: peers::run,
    },
];
