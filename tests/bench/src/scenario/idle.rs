//! Idle connections.
use std::{ffi::OsString, process::ExitCode};
pub(crate) fn role(_: &[OsString]) -> Option<ExitCode> {
    None
}
