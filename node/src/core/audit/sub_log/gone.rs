//! Openings that have gone, as runs of indices that go up.

/// Most runs of openings that wait for their ERASED event.
const GONE_MAX: usize = 65_536;

/// Adds an index to runs that go up.
pub(super) fn remember(gone: &mut Vec<(u64, u64)>, index: u64) {
    let full = gone.len() >= GONE_MAX;
    match gone.last_mut() {
        Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
        // So many runs without an event are one finding, whatever comes.
        Some((_, last)) if full => *last = index,
        Some(_) | None => gone.push((index, index)),
    }
}

/// Takes out what an ERASED event names.
pub(super) fn forget(gone: &mut Vec<(u64, u64)>, first: u64, count: u64) {
    let Some(last) = count.checked_sub(1).and_then(|more| first.checked_add(more)) else { return };
    let from = gone.partition_point(|(_, end)| *end < first);
    let to = gone.partition_point(|(begin, _)| *begin <= last);
    let Some(hit) = gone.get(from..to) else { return };
    let mut left = Vec::new();
    for (begin, end) in hit {
        if *begin < first {
            left.push((*begin, first - 1));
        }
        if *end > last {
            left.push((last + 1, *end));
        }
    }
    gone.splice(from..to, left);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erased_event_excuses_what_it_names_and_nothing_else() {
        let mut gone = Vec::new();
        for index in [3, 4, 5, 9, 10, 20] {
            remember(&mut gone, index);
        }
        assert_eq!(gone, [(3, 5), (9, 10), (20, 20)]);
        forget(&mut gone, 4, 6);
        assert_eq!(gone, [(3, 3), (10, 10), (20, 20)]);
        forget(&mut gone, 0, u64::MAX);
        assert_eq!(gone, []);
        remember(&mut gone, 3);
        forget(&mut gone, 7, 0);
        forget(&mut gone, u64::MAX, 2);
        assert_eq!(gone, [(3, 3)]);
    }
}
