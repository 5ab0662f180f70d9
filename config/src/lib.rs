//! What a region is.
//!
//! | module | what |
//! |---|---|
//! | [`source`] | how its authority describes it, in files that people read |
//! | [`issue`] | how keys are made, and keysets and rosters signed |
//! | [`authority`] | from sources and requests to a roster, and to the next one; who reviews and signs it |
//! | [`directory`] | who is a member, with which keys; what may follow what; how it travels |
//! | [`policy`] | who releases what to whom: baseline, bundles, one decision |
//! | [`settings`] | what the operator of a broker or a node may set |
//! | [`words`] | keys as words and digits that two people compare |
//! | [`clock`] | what a machine's clocks say, and whether somebody has set one |
//! | `document` | files that people write, read with errors that say what to do |

pub mod authority;
pub mod clock;
pub mod directory;
mod document;
mod entropy;
pub mod issue;
pub mod policy;
pub mod settings;
pub mod source;
#[cfg(test)]
mod testing;
pub mod words;

pub use directory::{Bootstrap, Directory, DirectoryError, HighWater, SuccessionError};

pub use entropy::os_entropy;
