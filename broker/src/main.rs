//! `lintas-broker`.

fn main() -> std::process::ExitCode {
    lintas_broker::main(std::env::args_os())
}
