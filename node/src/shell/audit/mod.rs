//! Audit logs on disk.
//!
//! - [`folder`]: a mirror or a broker's own folder, and what is believed of it
//! - [`mirror`]: fetches what is new, and takes nothing that contradicts what is there

pub(crate) mod folder;
pub(crate) mod mirror;

#[cfg(test)]
mod tests;
