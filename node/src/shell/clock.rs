//! The one place that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, tz::TimeZone};

/// Now, milliseconds since 1970-01-01T00:00:00Z.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now, on a clock that nobody sets.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970 of a day (its beginning, UTC) or of a time with its zone; none if it is neither.
pub(crate) fn read(text: &str) -> Option<u64> {
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| !text.contains('T'));
    let time = match day {
        Some(day) => day.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        None => text.parse::<Timestamp>().ok()?,
    };
    u64::try_from(time.as_millisecond()).ok()
}

/// `2026-11-22 04:51:30 UTC (11:51 +07)`: UTC, with local time beside where it differs.
pub(crate) fn show(ms: u64) -> String {
    let Some(time) = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
        return format!("{ms} ms since 1970");
    };
    let utc = time.to_zoned(TimeZone::UTC);
    let local = time.to_zoned(TimeZone::system());
    let shown = utc.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    if local.offset() == utc.offset() {
        return shown;
    }
    let same_day = local.date() == utc.date();
    let pattern = if same_day { "%H:%M %Z" } else { "%Y-%m-%d %H:%M %Z" };
    format!("{shown} ({})", local.strftime(pattern))
}
