//! An axis: its range, and where its ticks stand.

/// Parts into which a linear axis is divided, about.
const PARTS: f64 = 5.0;
/// Round numbers within a decade.
const ROUND: [f64; 3] = [1.0, 2.0, 5.0];
/// Up to so many decades a logarithmic axis has ticks within them too.
const DECADES_DIVIDED: f64 = 2.4;
/// Above it a decade in so many has a tick.
const DECADES_MAX: f64 = 8.0;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// An axis on which all `values` have their place, from 0 on if it is linear. What is not finite has none, nor
    /// what is not above 0 on a logarithmic axis.
    pub(super) fn new(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let shown = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0));
        let range = shown.fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (low, high) = range.unwrap_or((1.0, 1.0));
        if logarithmic { Self::logarithmic(low, high) } else { Self::linear(low.min(0.0), high.max(0.0)) }
    }

    fn linear(low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = round_up((high - low) / PARTS);
        let (first, last) = ((low / step).floor(), (high / step - 1e-9).ceil());
        let ticks = (0..=(last - first) as u32).map(|tick| (first + f64::from(tick)) * step).collect();
        Self { low: first * step, high: last * step, logarithmic: false, ticks }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let low = round_down(low);
        let high = round_up(high).max(low * 10.0);
        let decades = (high / low).log10();
        let every = (decades / DECADES_MAX).ceil().max(1.0) as usize;
        let within: &[f64] = if decades <= DECADES_DIVIDED { &ROUND } else { &ROUND[..1] };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let ticks = (first..=last)
            .step_by(every)
            .flat_map(|decade| within.iter().map(move |part| part * 10_f64.powi(decade)))
            .filter(|tick| (low * 0.999..=high * 1.001).contains(tick))
            .collect();
        Self { low, high, logarithmic: true, ticks }
    }

    /// Where a value stands, 0 (lowest) to 1; none if it has no place.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = if self.logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.is_finite().then_some(place)
    }
}

/// The next round number that is not below.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let parts = ROUND.into_iter().chain([10.0]);
    parts.map(|part| part * decade).find(|round| *round >= value * 0.999_999).unwrap_or(value)
}

/// The next round number that is not above.
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    ROUND
        .into_iter()
        .rev()
        .map(|part| part * decade)
        .find(|round| *round <= value * 1.000_001)
        .unwrap_or(value)
}

/// A number as people read it beside a tick: `250`, `10k`, `2.5M`.
pub(super) fn label(value: f64) -> String {
    if !value.is_finite() {
        return "nothing".to_owned();
    }
    let (value, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // What floating point adds is far below what a tick says.
    let digits = 10_f64.powf((3.0 - value.abs().max(1e-9).log10()).floor());
    format!("{}{suffix}", (value * digits).round() / digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], logarithmic: bool) -> Vec<String> {
        Axis::new(values.iter().copied(), logarithmic).ticks.into_iter().map(label).collect()
    }

    #[test]
    fn ticks_stand_at_round_values_and_enclose_all() {
        assert_eq!(ticks(&[3.0, 92.0], false), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(ticks(&[0.31, 0.12], false), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(ticks(&[26_500.0], false), ["0", "10k", "20k", "30k"]);
        assert_eq!(ticks(&[1e4, 1e5, 1e6], true), ["10k", "20k", "50k", "100k", "200k", "500k", "1M"]);
        assert_eq!(ticks(&[7.0, 2e6], true), ["10", "100", "1k", "10k", "100k", "1M"]);
        assert_eq!(ticks(&[1e-9, 1e9], true).len(), 7);
    }

    #[test]
    fn an_axis_without_sensible_values_has_ticks_too() {
        for values in [&[][..], &[0.0], &[f64::NAN], &[f64::INFINITY, -3.0], &[5.0, 5.0]] {
            for logarithmic in [false, true] {
                let axis = Axis::new(values.iter().copied(), logarithmic);
                assert!((2..=9).contains(&axis.ticks.len()), "{values:?}: {axis:?}");
                assert!(axis.ticks.iter().all(|tick| axis.place(*tick).is_some()), "{axis:?}");
            }
        }
    }

    #[test]
    fn a_value_has_its_place() {
        let (linear, logarithmic) =
            (Axis::new([0.0, 100.0].into_iter(), false), Axis::new([1.0, 100.0].into_iter(), true));
        assert_eq!((linear.place(25.0), logarithmic.place(10.0)), (Some(0.25), Some(0.5)));
        assert_eq!(
            (linear.place(f64::NAN), logarithmic.place(0.0), logarithmic.place(-1.0)),
            (None, None, None)
        );
    }
}
