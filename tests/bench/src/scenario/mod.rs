//! What is measured.

mod limits;
mod peers;
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
pub(crate) const ALL: [Scenario; 3] = [
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
        name: "peers",
        says: "the same beside NATS JetStream, RabbitMQ and PostgreSQL, each durable (feature `peers`)",
        run: peers::run,
    },
];
