//! Lines over an axis.

use picture::{Anchor, Canvas, WIDTH, cell};

const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const INNER: f64 = 220.0;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal steps are equally long.
    Linear,
    /// Equal factors are.
    Log,
}

/// One of the two axes.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it shows, with its unit.
    pub(crate) label: String,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to beyond the greatest value, in round steps.
    pub(crate) fn linear(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(1e-9) * 1.08;
        let rough = most / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(power * 10.0);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at < most + step / 2.0 {
            ticks.push((at, number(at)));
            at += step;
        }
        Self {
            label: label.into(),
            scale: Scale::Linear,
            from: 0.0,
            to: ticks.last().map_or(most, |last| last.0).max(most),
            ticks,
        }
    }

    /// Powers of ten around all values, with twos and fives between them if there are few.
    pub(crate) fn log(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let few = (high / low).log10() < 2.5;
        let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut all = Vec::new();
        let mut power = 10f64.powf(low.log10().floor());
        while power <= high * 10.0 {
            all.extend(steps.iter().map(|step| step * power));
            power *= 10.0;
        }
        let from = all.iter().copied().filter(|at| *at <= low * 0.98);
        let from = from.fold(
            low * 0.9,
            |last, at| if at > low / 10.0 { at } else { last },
        );
        let to = all.iter().copied().find(|at| *at >= high * 1.02);
        let to = to.unwrap_or(high * 1.1);
        let inside = all.into_iter().filter(|at| *at >= from && *at <= to);
        Self {
            label: label.into(),
            scale: Scale::Log,
            from,
            to,
            ticks: inside.map(|at| (at, number(at))).collect(),
        }
    }

    /// A logarithmic axis with marks at these values only.
    pub(crate) fn log_at(label: &str, ticks: Vec<(f64, String)>) -> Self {
        let ends = |of: fn(f64, f64) -> f64, start| ticks.iter().map(|t| t.0).fold(start, of);
        Self {
            label: label.into(),
            scale: Scale::Log,
            from: ends(f64::min, f64::INFINITY) / 1.5,
            to: ends(f64::max, 0.0) * 1.5,
            ticks,
        }
    }

    /// Names at equal distances, at 0, 1, 2 and so on.
    pub(crate) fn names<Name: ToString>(label: &str, names: &[Name]) -> Self {
        let ticks: Vec<_> = (0u32..)
            .zip(names)
            .map(|(place, name)| (f64::from(place), name.to_string()))
            .collect();
        Self {
            label: label.into(),
            scale: Scale::Linear,
            from: -0.3,
            to: ticks.last().map_or(1.0, |last| last.0) + 0.3,
            ticks,
        }
    }

    /// Where a value is between the ends.
    fn share(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// What a value is called here.
    fn name(&self, value: f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| (at - value).abs() < 1e-9);
        tick.map_or_else(|| number(value), |(_, name)| name.clone())
    }
}

/// A number with as many digits as it needs.
pub(crate) fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Where the values of a line are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Nowhere.
    Hidden,
    /// Above the dots.
    Above,
    /// Below them.
    Below,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Its colour's number.
    pub(crate) colour: u8,
    /// Whether it is dashed, with hollow dots.
    pub(crate) dashed: bool,
    /// Where its values are written.
    pub(crate) values: Values,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// What it is about.
    pub(crate) title: String,
    /// To the right.
    pub(crate) x: Axis,
    /// Upwards.
    pub(crate) y: Axis,
    /// The lines.
    pub(crate) series: Vec<Series>,
    /// Values without an x: a line from side to side.
    pub(crate) levels: Vec<(String, u8, bool, f64)>,
}

impl Plot {
    /// As SVG.
    pub(crate) fn svg(&self) -> String {
        let mut canvas = Canvas::default();
        canvas.text("t", (12.0, 20.0), Anchor::Start, &self.title);
        let lines = self.series.iter().map(|s| (s.colour, s.dashed, &s.name));
        let levels = self.levels.iter().map(|l| (l.1, l.2, &l.0));
        let entries: Vec<_> = lines
            .chain(levels)
            .map(|(colour, dashed, name)| (stroke(colour, dashed), name.clone()))
            .collect();
        let top = canvas.legend(42.0, &entries, false) + 16.0;
        let bottom = top + INNER;
        self.axes(&mut canvas, top, bottom);
        let place = |x: f64, y: f64| {
            let width = WIDTH - LEFT - RIGHT;
            (
                LEFT + self.x.share(x) * width,
                bottom - self.y.share(y) * INNER,
            )
        };
        for (_, colour, dashed, level) in &self.levels {
            let (_, y) = place(self.x.from, *level);
            canvas.line(&stroke(*colour, *dashed), (LEFT, y), (WIDTH - RIGHT, y));
        }
        for series in &self.series {
            let points: Vec<_> = series.points.iter().map(|(x, y)| place(*x, *y)).collect();
            canvas.polyline(&stroke(series.colour, series.dashed), &points);
            let class = if series.dashed {
                format!("h s{}", series.colour)
            } else {
                format!("f{}", series.colour)
            };
            for (at, (x, y)) in points.iter().zip(&series.points) {
                let says = format!("{}, {}: {}", series.name, self.x.name(*x), number(*y));
                canvas.dot(&class, *at, &says);
            }
        }
        // Values last, so that no line runs over them.
        for series in &self.series {
            let down = match series.values {
                Values::Hidden => continue,
                Values::Above => -8.0,
                Values::Below => 16.0,
            };
            for (x, y) in &series.points {
                let (left, up) = place(*x, *y);
                canvas.text("v", (left, up + down), Anchor::Middle, short(*y));
            }
        }
        canvas.finish(bottom + 48.0, &self.title)
    }

    fn axes(&self, canvas: &mut Canvas, top: f64, bottom: f64) {
        let right = WIDTH - RIGHT;
        for (at, name) in &self.y.ticks {
            let y = bottom - self.y.share(*at) * INNER;
            canvas.line("g", (LEFT, y), (right, y));
            canvas.text("l", (LEFT - 7.0, y + 4.0), Anchor::End, name);
        }
        for (at, name) in &self.x.ticks {
            let x = LEFT + self.x.share(*at) * (right - LEFT);
            canvas.line("a", (x, bottom), (x, bottom + 5.0));
            canvas.text("l", (x, bottom + 19.0), Anchor::Middle, name);
        }
        canvas.line("a", (LEFT, bottom), (right, bottom));
        let middle = f64::midpoint(LEFT, right);
        canvas.text("l", (middle, bottom + 39.0), Anchor::Middle, &self.x.label);
        canvas.upright("l", (15.0, f64::midpoint(top, bottom)), &self.y.label);
    }

    /// Its points, one a line.
    pub(crate) fn csv(&self) -> String {
        let mut lines = vec![format!(
            "series,{},{}",
            cell(&self.x.label),
            cell(&self.y.label)
        )];
        for series in &self.series {
            for (x, y) in &series.points {
                let x = match self.x.scale {
                    Scale::Linear => self.x.name(*x),
                    Scale::Log => x.to_string(),
                };
                lines.push(format!("{},{},{y}", cell(&series.name), cell(&x)));
            }
        }
        for (name, _, _, level) in &self.levels {
            lines.push(format!("{},,{level}", cell(name)));
        }
        lines.join("\n") + "\n"
    }
}

/// The class of a line.
fn stroke(colour: u8, dashed: bool) -> String {
    let dash = if dashed { " d" } else { "" };
    format!("s s{colour}{dash}")
}

/// A value beside its dot.
fn short(value: f64) -> String {
    if value >= 20.0 {
        format!("{value:.0}")
    } else {
        number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_all_values_and_have_a_few_round_marks() {
        for most in [0.7, 3.0, 42.0, 138.6, 299.0, 1650.0] {
            let axis = Axis::linear("cycles", [1.0, most].into_iter());
            assert!(axis.to >= most, "{most}");
            assert!((4..=8).contains(&axis.ticks.len()), "{most}: {axis:?}");
        }
        for (low, high) in [(0.5, 0.6), (1.1, 90.0), (0.2, 5000.0), (10.0, 10.0)] {
            let axis = Axis::log("us", [low, high].into_iter());
            assert!(axis.from < low && axis.to > high, "{axis:?}");
            assert!((1..=9).contains(&axis.ticks.len()), "{axis:?}");
        }
    }

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        let shown = [0.0, 0.25, 5.0, 12.34, 100.0, 1650.4].map(number);
        assert_eq!(shown, ["0", "0.25", "5", "12.3", "100", "1650"]);
    }
}
