//! Bars side by side, for things that have no order.

use super::plot::number;
use picture::{Anchor, Canvas, WIDTH, cell};

const BAR: f64 = 13.0;
const GAP: f64 = 11.0;

/// Groups of bars that lie under each other.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// What it is about.
    pub(crate) title: String,
    /// What the length is, with its unit.
    pub(crate) label: String,
    /// Names and colours of a group's bars.
    pub(crate) keys: Vec<(String, u8)>,
    /// Each group's name, and its values by key; a bar that is not there has none.
    pub(crate) groups: Vec<(String, Vec<Option<f64>>)>,
}

impl Bars {
    fn most(&self) -> f64 {
        let values = self.groups.iter().flat_map(|(_, values)| values);
        values.copied().flatten().fold(1e-9, f64::max)
    }

    /// As SVG.
    pub(crate) fn svg(&self) -> String {
        let mut canvas = Canvas::default();
        canvas.text("t", (12.0, 20.0), Anchor::Start, &self.title);
        let entries: Vec<_> = self
            .keys
            .iter()
            .map(|(name, colour)| (format!("f{colour}"), name.clone()))
            .collect();
        let mut y = if entries.len() > 1 {
            canvas.legend(42.0, &entries, true) + 18.0
        } else {
            36.0
        };
        // A group's name is above its bars: names are long and a phone is narrow.
        let most = self.most();
        let width = WIDTH - 12.0 - 70.0;
        for (name, values) in &self.groups {
            canvas.text("l", (12.0, y + 6.0), Anchor::Start, name);
            y += 12.0;
            for ((_, colour), value) in self.keys.iter().zip(values) {
                let Some(value) = value else { continue };
                let length = (value / most * width).max(1.0);
                canvas.bar(&format!("f{colour}"), (12.0, y), (length, BAR));
                let place = (12.0 + length + 6.0, y + BAR - 2.5);
                canvas.text("v", place, Anchor::Start, number(*value));
                y += BAR + 2.0;
            }
            y += GAP;
        }
        canvas.text("l", (12.0, y + 8.0), Anchor::Start, &self.label);
        canvas.finish(y + 20.0, &self.title)
    }

    /// Its bars, one a line.
    pub(crate) fn csv(&self) -> String {
        let mut lines = vec![format!("group,series,{}", cell(&self.label))];
        for (group, values) in &self.groups {
            for ((name, _), value) in self.keys.iter().zip(values) {
                if let Some(value) = value {
                    lines.push(format!("{},{},{value}", cell(group), cell(name)));
                }
            }
        }
        lines.join("\n") + "\n"
    }
}
