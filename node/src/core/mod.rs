//! What the node decides: pure, with time and randomness as arguments. Never imports the shell, the runtime,
//! files or the network.
//!
//! - [`draft`], [`preflight`]: from what an officer writes to recipients that may have it; [`contacts`]: whom an officer
//!   has confirmed; [`freshness`]: whether the directory is known to be out of date
//! - [`outbox`]: which packet goes next; [`answer`]: what the broker and recipients say about it
//! - [`inbox`]: what comes; [`archive`]: what was kept, opened again
//! - [`state`]: what the node knows, folded over [`records`], with [`ledger`] and [`tally`]
//! - [`keys`], [`vault`]: secret keys, sealed and in use; [`rotation`]: how they change by themselves; [`pages`]: what
//!   content keys are sealed under; [`listed`]: what the directory says of keys; [`paper`]: a keyset on paper
//! - [`exposure`]: what the loss of a key exposes; [`health`]: what `lintas doctor` says
//! - [`log`]: the broker's audit log, followed and proven
//! - [`view`], [`text`]: what is shown, and safe to print; [`handling`]: what a label obliges its reader to

pub(crate) mod answer;
pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod contacts;
pub(crate) mod draft;
pub(crate) mod exposure;
pub(crate) mod freshness;
pub(crate) mod handling;
pub(crate) mod health;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod listed;
pub(crate) mod log;
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
