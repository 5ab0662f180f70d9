//! What is measured.

mod attachment;
pub(crate) mod idle;
mod inbox;
mod limits;
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
pub(crate) const ALL: [Scenario; 5] = [
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
        name: "attachment",
        says: "a file of 4 GiB between two nodes: sealed, up, down",
        run: attachment::run,
    },
    Scenario {
        name: "inbox",
        says: "from the sender to the recipient's inbox, durable there",
        run: inbox::run,
    },
    Scenario {
        name: "idle",
        says: "1,000 idle connections: the broker's memory, and the latency of others",
        run: idle::run,
    },
];
