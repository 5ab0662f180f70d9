//! The command line.

use std::{
    ffi::OsString,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use crate::{
    bench::Bench,
    quiet,
    report::{Bars, Chart, Row, svg, table},
    scenario::{ALL, Scenario},
};

const EXAMPLES: &str = "\
Examples:
  lintas-bench all                        everything, with charts beside docs/PERFORMANCE.md if asked for
  lintas-bench submit latency --seconds 5
  lintas-bench all --json > results.jsonl

Exit codes:
  0  every target that was looked at holds
  1  a target is missed, or something went wrong
  2  the command line is wrong";

/// How fast Lintas is, beside the limits of the machine and beside its peers, measured in one run.
///
/// Everything runs on this machine and listens on loopback only.
#[derive(Debug, Parser)]
#[command(name = "lintas-bench", version, after_help = EXAMPLES)]
struct Arguments {
    /// `all`, or names of scenarios (see --list).
    #[arg(required_unless_present = "list", value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Say which scenarios there are.
    #[arg(long)]
    list: bool,
    /// One line of JSON for each measurement.
    #[arg(long)]
    json: bool,
    /// How long one measurement may take, seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Folder on the disk to measure; what is written there is removed again. Temporary files may be in memory on
    /// some machines, where nothing is durable: choose a real disk.
    #[arg(long, value_name = "DIR", default_value = ".")]
    work: PathBuf,
    /// Write charts (SVG) into this folder.
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if arguments.list {
        for scenario in ALL {
            println!("{:<12} {}", scenario.name, scenario.says);
        }
        return ExitCode::SUCCESS;
    }
    let chosen = match chosen(&arguments.scenarios) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("There is no scenario `{unknown}`; lintas-bench --list shows them all.");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("Built without optimisation: these numbers say nothing. Use cargo run --release.");
    }
    run(&arguments, &chosen)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, &str> {
    if names == ["all"] {
        return Ok(ALL.iter().collect());
    }
    names.iter().map(|name| ALL.iter().find(|known| known.name == name).ok_or(name.as_str())).collect()
}

fn run(arguments: &Arguments, chosen: &[&Scenario]) -> ExitCode {
    let program = std::env::current_exe().unwrap();
    let work = tempfile::Builder::new().prefix("lintas-bench-").tempdir_in(&arguments.work).unwrap();
    let bench = Bench::new(program, work.path().to_owned(), arguments.seconds);
    let (mut rows, mut charts, mut bars) = (quiet::look(&bench.work), vec![], vec![]);
    show(&bench, arguments.json, &rows);
    let mut failed = false;
    for scenario in chosen {
        // What goes wrong in one says nothing about the others.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&bench))) else {
            bench.quiet();
            eprintln!("{}: went wrong, see above", scenario.name);
            failed = true;
            continue;
        };
        show(&bench, arguments.json, &outcome.rows);
        rows.extend(outcome.rows);
        charts.extend(outcome.charts);
        bars.extend(outcome.bars);
    }
    if let Some(folder) = &arguments.charts {
        draw(folder, &charts, &bars);
    }
    let missed = rows.iter().filter(|row| row.holds() == Some(false)).count();
    let looked = rows.iter().filter(|row| row.holds().is_some()).count();
    if !arguments.json {
        println!("\n{} of {looked} targets hold.", looked - missed);
    }
    ExitCode::from(u8::from(missed > 0 || failed))
}

/// Shows what one scenario found.
fn show(bench: &Bench, json: bool, rows: &[Row]) {
    bench.quiet();
    if json {
        for row in rows {
            println!("{}", row.json());
        }
    } else {
        print!("{}", table::render(rows, table::colour()));
    }
}

fn draw(folder: &Path, charts: &[Chart], bars: &[Bars]) {
    fs::create_dir_all(folder).unwrap();
    let drawn = charts.iter().map(|chart| (chart.file, svg::draw(chart)));
    for (file, text) in drawn.chain(bars.iter().map(|bars| (bars.file, svg::bars(bars)))) {
        fs::write(folder.join(format!("{file}.svg")), text).unwrap();
    }
}
