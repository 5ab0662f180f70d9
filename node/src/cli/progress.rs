//! A bar while attachments are sealed, opened or uploaded; on a terminal only.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::shell::control::Watcher;

/// Does `work` with a bar that appears with the first word of progress, and goes at the end.
pub(super) fn with_bar<T>(doing: &'static str, work: impl FnOnce(Watcher<'_>) -> T) -> T {
    let wanted = std::io::stderr().is_terminal();
    let mut bar: Option<ProgressBar> = None;
    let done = work(&mut |done, total| {
        if wanted {
            bar.get_or_insert_with(|| new(doing, total)).set_position(done);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done
}

fn new(doing: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(doing);
    let style = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left";
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
