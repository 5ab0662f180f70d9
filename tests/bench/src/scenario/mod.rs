//! What is measured.

mod disk;
mod fanout;
mod growth;
mod limits;
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
pub(crate) const ALL: [Scenario; 6] = [
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
    Scenario { name: "fanout", says: "one packet to 1, 10, 100 recipients", run: fanout::run },
    Scenario { name: "disk", says: "disk taken by a packet, and after all were delivered", run: disk::run },
    Scenario {
        name: "growth",
        says: "whether anything gets slower as the store grows: 10,000 to 1,000,000 packets",
        run: growth::run,
    },
    Scenario {
        name: "reopen",
        says: "from kill -9 until the broker listens again, per million live packets",
        run: reopen::run,
    },
];
