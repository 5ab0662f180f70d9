//! The command `lintas`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lintas_node::main(std::env::args_os())
}
