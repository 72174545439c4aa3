//! Words of SVG, and the one style of all figures and of the pages that hold them.
//!
//! A page is one file: styles and figures are in it, and nothing is from elsewhere.
//!
//! Colours are in classes, not in attributes, so that a figure follows light and dark, alone or in
//! the page.

use std::fmt::{Display, Write};

/// Width of every figure in its own units: a phone shows them at three quarters, text stays legible.
pub const WIDTH: f64 = 480.0;

/// The rules for all figures.
pub const STYLE: &str = "\
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
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // XML has no way to write them.
            other if other.is_control() && !matches!(other, '\n' | '\t') => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// How wide a text is about, at twelve units of height; rather too wide than too narrow.
pub fn text_width(text: &str) -> f64 {
    let letter = |letter: char| match letter {
        'i' | 'l' | '.' | ',' | ' ' | 't' | 'f' | 'j' | '\'' => 3.8,
        'm' | 'w' | 'M' | 'W' | '%' => 10.5,
        _ => 7.0,
    };
    text.chars().map(letter).sum()
}

/// Where a text's place is in it.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A picture as it is drawn.
#[derive(Debug, Default)]
pub struct Canvas {
    body: String,
}

impl Canvas {
    /// Adds an element. Writing into a string cannot fail.
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        let _infallible = writeln!(self.body, "{element}");
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((a, b), (c, d)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{a:.1}" y1="{b:.1}" x2="{c:.1}" y2="{d:.1}"/>"#
        ));
    }

    /// A line through all of these.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
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
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), says: &str) {
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{}</title></circle>"#,
            escaped(says)
        ));
    }

    /// A bar.
    pub fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    /// A text.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: impl Display) {
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
    pub fn upright(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        self.add(format_args!(
            r#"<text class="{class}" transform="translate({x:.1} {y:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escaped(text)
        ));
    }

    /// The key to colours and strokes, in as many rows as it needs; returns where it ends.
    pub fn legend(&mut self, top: f64, entries: &[(String, String)], bars: bool) -> f64 {
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
    pub fn finish(self, height: f64, title: &str) -> String {
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
pub fn alone(picture: &str) -> String {
    picture.replacen(
        "\n<title>",
        &format!("\n<style>{STYLE}</style>\n<title>"),
        1,
    )
}

/// The rules for pages.
const PAGE_STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0 auto;padding:1rem;max-width:76rem;font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;\
color:#1b2027;background:#fff}\
h1{font-size:1.5rem;margin:.3rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.4rem 0;max-width:60rem}\
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));gap:1rem;align-items:start}\
figure{margin:0;border:1px solid #d9dde2;border-radius:6px;padding:.4rem;break-inside:avoid}\
figure svg{display:block;width:100%;height:auto}\
figcaption{font-size:.85rem;color:#57606b;padding:.2rem .5rem}\
a{color:#1f62b0}\
.wide{overflow-x:auto;margin-top:1rem}\
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;white-space:nowrap}\
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e4e7eb}\
th{font-weight:600;color:#57606b;border-bottom:1px solid #8b949e;vertical-align:bottom;white-space:normal}\
th.n,td.n{text-align:left}\
@media screen and (prefers-color-scheme:dark){body{color:#e5e9ee;background:#15191e}\
figure{border-color:#2e363f}figcaption,th{color:#a0a9b4}a{color:#6cb2ff}\
th,td{border-bottom-color:#2a313a}th{border-bottom-color:#6b7580}}\
@page{margin:12mm}\
@media print{body{padding:0;font-size:11px}.wide{overflow:visible}table{font-size:8px}th,td{padding:1px 4px}\
.figures{grid-template-columns:1fr 1fr}tr{break-inside:avoid}h2{break-after:avoid}}";

/// A page with figures, tables and what else `body` holds.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{}</title>\n<style>{PAGE_STYLE}{STYLE}</style>\n</head>\n<body>\n{body}\
         </body>\n</html>\n",
        escaped(title)
    )
}

/// A field of CSV (RFC 4180).
pub fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!(cell("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}
