//! What the node decides: pure, with time and randomness as arguments. Never imports the shell, the runtime,
//! files or the network.

pub(crate) mod answer;
pub(crate) mod archive;
pub(crate) mod contacts;
pub(crate) mod draft;
pub(crate) mod exposure;
pub(crate) mod freshness;
pub(crate) mod health;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod listed;
pub(crate) mod outbox;
pub(crate) mod pages;
pub(crate) mod paper;
pub(crate) mod preflight;
pub(crate) mod records;
pub(crate) mod rotation;
pub(crate) mod state;
pub(crate) mod tally;
pub(crate) mod text;
pub(crate) mod vault;
pub(crate) mod view;
