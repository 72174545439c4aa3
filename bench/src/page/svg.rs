//! Words of SVG, and the one style of all figures.
//!
//! Colours are in classes, not in attributes, so that a figure follows light and dark, alone or in
//! the page.

use std::fmt::{Display, Write};

/// Width of every figure in its own units: a phone shows them at three quarters, text stays legible.
pub(crate) const WIDTH: f64 = 480.0;

/// Colours by role. What is flowmob's, and three peers.
pub(crate) const FLOWMOB: u8 = 0;
/// The bare loop.
pub(crate) const FLOOR: u8 = 1;
/// testpmd.
pub(crate) const TESTPMD: u8 = 2;
/// Another row of flowmob's beside [`FLOWMOB`].
pub(crate) const SECOND: u8 = 3;

/// The rules for all of it.
pub(crate) const STYLE: &str = "\
.fig{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;font-size:12px}\
.fig .bg{fill:#fff}.fig text{fill:#1b2027}.fig .t{font-size:14px;font-weight:600}\
.fig .l{fill:#57606b}.fig .v{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\
.fig .g{stroke:#e4e7eb}.fig .a{stroke:#8b949e}\
.fig .s{fill:none;stroke-width:2;stroke-linejoin:round}.fig .d{stroke-dasharray:6 4}\
.fig .s0{stroke:#1f62b0}.fig .s1{stroke:#6f7885}.fig .s2{stroke:#c4581a}.fig .s3{stroke:#17806a}\
.fig .f0{fill:#1f62b0}.fig .f1{fill:#6f7885}.fig .f2{fill:#c4581a}.fig .f3{fill:#17806a}\
.fig .h{fill:#fff;stroke-width:2}\
@media screen and (prefers-color-scheme:dark){\
.fig .bg{fill:#15191e}.fig text{fill:#e5e9ee}.fig .l{fill:#a0a9b4}.fig .v{stroke:#15191e}\
.fig .g{stroke:#2a313a}.fig .a{stroke:#6b7580}\
.fig .s0{stroke:#6cb2ff}.fig .s1{stroke:#a7afb9}.fig .s2{stroke:#f59d62}.fig .s3{stroke:#55c9ab}\
.fig .f0{fill:#6cb2ff}.fig .f1{fill:#a7afb9}.fig .f2{fill:#f59d62}.fig .f3{fill:#55c9ab}\
.fig .h{fill:#15191e}}";

/// Text with what HTML and XML take for their own replaced.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            other => out.push(other),
        }
    }
    out
}

/// How wide a text is about, at twelve units of height; rather too wide than too narrow.
pub(crate) fn text_width(text: &str) -> f64 {
    let letter = |letter: char| match letter {
        'i' | 'l' | '.' | ',' | ' ' | 't' | 'f' | 'j' | '\'' => 3.8,
        'm' | 'w' | 'M' | 'W' | '%' => 10.5,
        _ => 7.0,
    };
    text.chars().map(letter).sum()
}

/// Where a text's place is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A picture as it is drawn.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    body: String,
}

impl Canvas {
    /// Adds an element. Writing into a string cannot fail.
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        let _infallible = writeln!(self.body, "{element}");
    }

    /// A straight line.
    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((a, b), (c, d)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{a:.1}" y1="{b:.1}" x2="{c:.1}" y2="{d:.1}"/>"#
        ));
    }

    /// A line through all of these.
    pub(crate) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let places: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.add(format_args!(
            r#"<polyline class="{class}" points="{}"/>"#,
            places.join(" ")
        ));
    }

    /// A dot that tells its value to whoever points at it.
    pub(crate) fn dot(&mut self, class: &str, (x, y): (f64, f64), says: &str) {
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{}</title></circle>"#,
            escaped(says)
        ));
    }

    /// A bar.
    pub(crate) fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    /// A text.
    pub(crate) fn text(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        anchor: Anchor,
        text: impl Display,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.add(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escaped(&text.to_string())
        ));
    }

    /// A text that reads upwards, its middle here.
    pub(crate) fn upright(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        self.add(format_args!(
            r#"<text class="{class}" transform="translate({x:.1} {y:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escaped(text)
        ));
    }

    /// The key to colours and strokes, in as many rows as it needs; returns where it ends.
    pub(crate) fn legend(&mut self, top: f64, entries: &[(String, String)], bars: bool) -> f64 {
        let (mut x, mut y) = (12.0, top);
        for (class, name) in entries {
            let width = 30.0 + text_width(name) + 12.0;
            if x + width > WIDTH && x > 12.0 {
                x = 12.0;
                y += 17.0;
            }
            if bars {
                self.bar(class, (x + 6.0, y - 9.0), (14.0, 10.0));
            } else {
                self.line(class, (x, y - 4.0), (x + 24.0, y - 4.0));
            }
            self.text("l", (x + 30.0, y), Anchor::Start, name);
            x += width;
        }
        y
    }

    /// The picture, for a page that has [`STYLE`].
    pub(crate) fn finish(self, height: f64, title: &str) -> String {
        format!(
            "<svg class=\"fig\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} \
             {height:.0}\" role=\"img\">\n<title>{}</title>\n<rect class=\"bg\" width=\"100%\" \
             height=\"100%\"/>\n{}</svg>\n",
            escaped(title),
            self.body
        )
    }
}

/// A picture as a file of its own.
pub(crate) fn alone(picture: &str) -> String {
    picture.replacen(
        "\n<title>",
        &format!("\n<style>{STYLE}</style>\n<title>"),
        1,
    )
}
