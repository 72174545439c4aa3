//! Rates: differences of counters over the time between two answers.

use std::collections::BTreeMap;
use std::time::Duration;

/// A row that is found again in the next answer.
pub(super) trait Keyed {
    /// What it is known by.
    type Key: Ord;

    /// That of this row.
    fn key(&self) -> Self::Key;
}

/// A table as it was answered last, and the answer before.
#[derive(Debug)]
pub(super) struct Series<R: Keyed> {
    rows: Vec<R>,
    before: BTreeMap<R::Key, R>,
    at: Duration,
    /// From the answer before to the last one.
    between: Duration,
}

impl<R: Keyed> Default for Series<R> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            before: BTreeMap::new(),
            at: Duration::ZERO,
            between: Duration::ZERO,
        }
    }
}

impl<R: Keyed> Series<R> {
    /// Takes the next answer. `None`: it was not asked for, so what follows it has nothing to be compared with.
    pub(super) fn take(&mut self, answer: Option<Answered<Vec<R>>>) {
        let Some(Answered { at, value }) = answer else {
            return *self = Self::default();
        };
        let rows = std::mem::replace(&mut self.rows, value);
        self.before = rows.into_iter().map(|row| (row.key(), row)).collect();
        self.between = at.saturating_sub(self.at);
        self.at = at;
    }

    /// The rows, without rates.
    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// The rows, each with what it was before.
    pub(super) fn counted(&self) -> impl Iterator<Item = Counted<'_, R>> {
        self.rows.iter().map(|row| Counted {
            row,
            before: self.before.get(&row.key()),
            seconds: self.between.as_secs_f64(),
        })
    }
}

/// Something, and when it was answered.
#[derive(Clone, Debug)]
pub(super) struct Answered<T> {
    /// On the clock of this program.
    pub(super) at: Duration,
    /// What.
    pub(super) value: T,
}

/// A row and what it was in the answer before.
#[derive(Debug)]
pub(super) struct Counted<'a, R> {
    /// As it is.
    pub(super) row: &'a R,
    before: Option<&'a R>,
    seconds: f64,
}

impl<R> Clone for Counted<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Counted<'_, R> {}

impl<R> Counted<'_, R> {
    /// By how much a counter has grown. `None` if that is not known: the row is new, or its counter began anew.
    pub(super) fn growth(&self, counter: impl Fn(&R) -> u64) -> Option<u64> {
        counter(self.row).checked_sub(counter(self.before?))
    }

    /// How fast it grows.
    pub(super) fn rate(&self, counter: impl Fn(&R) -> u64) -> Option<f64> {
        let growth = self.growth(counter)?;
        (self.seconds > 0.0).then(|| number(growth) / self.seconds)
    }

    /// As [`Counted::rate`], of octets, in bits.
    pub(super) fn bits(&self, octets: impl Fn(&R) -> u64) -> Option<f64> {
        Some(8.0 * self.rate(octets)?)
    }
}

/// A counter to calculate with; above 2^53 the last digits are lost, and nobody reads them.
#[allow(clippy::cast_precision_loss, reason = "as the documentation says")]
pub(super) fn number(counter: u64) -> f64 {
    counter as f64
}

/// A sum of what is known; `None` if nothing is.
pub(super) fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().fold(None, |sum: Option<f64>, rate| {
        Some(sum.unwrap_or_default() + rate)
    })
}

/// A rate with three digits and the unit's prefix: `0.25`, `17.2`, `1.24k`, `9.88G`.
pub(super) fn short(rate: f64) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let mut value = rate;
    let mut prefixes = PREFIXES.iter();
    let mut prefix = prefixes.next();
    // What would be rounded to 1000 is 1.00 of the next.
    while value >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        prefix = Some(next);
        value /= 1000.0;
    }
    let digits = match value {
        _ if value == 0.0 => 0,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", prefix.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Row(&'static str, u64);

    impl Keyed for Row {
        type Key = &'static str;

        fn key(&self) -> Self::Key {
            self.0
        }
    }

    fn after(seconds: u64, value: Vec<Row>) -> Answered<Vec<Row>> {
        let at = Duration::from_secs(seconds);
        Answered { at, value }
    }

    fn rates(series: &Series<Row>) -> Vec<Option<f64>> {
        series.counted().map(|row| row.rate(|row| row.1)).collect()
    }

    #[test]
    fn a_rate_is_the_growth_over_the_measured_time() {
        let mut series = Series::default();
        series.take(Some(after(10, vec![Row("a", 5), Row("b", 1)])));
        assert_eq!(rates(&series), [None, None]);
        // The order may change, and the interval.
        series.take(Some(after(14, vec![Row("b", 1), Row("a", 25)])));
        assert_eq!(rates(&series), [Some(0.0), Some(5.0)]);
        let bits: Vec<_> = series.counted().map(|row| row.bits(|row| row.1)).collect();
        assert_eq!(bits, [Some(0.0), Some(40.0)]);
    }

    #[test]
    fn what_begins_anew_has_no_rate_until_the_next_answer() {
        let mut series = Series::default();
        series.take(Some(after(1, vec![Row("a", u64::MAX), Row("b", 7)])));
        series.take(Some(after(2, vec![Row("a", 3), Row("c", 9)])));
        assert_eq!(rates(&series), [None, None]);
        series.take(Some(after(3, vec![Row("a", 4), Row("b", 900)])));
        assert_eq!(rates(&series), [Some(1.0), None], "b had gone");
        series.take(None);
        assert!(series.rows().is_empty());
        series.take(Some(after(4, vec![Row("a", 1_000_000)])));
        assert_eq!(rates(&series), [None]);
        // Two answers at the same time say nothing about time.
        series.take(Some(after(4, vec![Row("a", 1_000_001)])));
        assert_eq!(rates(&series), [None]);
    }

    #[test]
    fn rates_have_three_digits() {
        let said = [
            (0.0, "0"),
            (0.25, "0.25"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (17_240.0, "17.2k"),
            (1.0e10, "10.0G"),
            (5.0e21, "5000000P"),
        ];
        for (rate, text) in said {
            assert_eq!(short(rate), text);
        }
    }
}
