//! Secrets in memory stay out of core dumps, and out of reach of this user's other processes.

use rustix::process::{Resource, Rlimit, setrlimit};

/// No core dumps of this process from now on. What the system does not grant is only logged.
pub(crate) fn no_core_dumps() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::debug!(%error, "core dumps could not be limited");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::debug!(%error, "this process could not be made undumpable");
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn every_command_forbids_core_dumps_first() {
        for command in ["status", "run"] {
            // There is no such folder; that is found out afterwards.
            crate::cli::run(["lintas", "--data", "/nonexistent", command].map(Into::into));
            let limit = getrlimit(Resource::Core);
            assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
            #[cfg(target_os = "linux")]
            assert_eq!(
                rustix::process::dumpable_behavior().unwrap(),
                rustix::process::DumpableBehavior::NotDumpable
            );
        }
    }
}
