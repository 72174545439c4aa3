//! The screen. Everything can be told without colours, and in any size there is something to see.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::data::Total;
use super::grid::{Column, Grid, Outlook, Row};
use super::model::{HELP, Mode, Move, Top};
use super::rates::{short, sum};
use super::views::{View, accesses_of, percent};

/// Whether colours are wanted (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
}

impl Look {
    /// What somebody should look at.
    fn loud(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours {
            style.fg(Color::Yellow)
        } else {
            style
        }
    }

    /// What went wrong.
    fn error(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours {
            style.fg(Color::Red)
        } else {
            style.add_modifier(Modifier::REVERSED)
        }
    }
}

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const POINTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top, now: Duration, look: Look) {
    let mut rest = frame.area();
    let (text, style) = footer(top, look);
    // The table comes first where there is little room.
    if rest.height >= 3 {
        let (text, style) = header(top, now, look);
        write(frame, &mut rest, take_top, 2, &text, style);
    }
    if rest.height >= 4 {
        let line = take_top(&mut rest, 1);
        put(frame, line, 0, tabs(top), PLAIN);
    }
    if rest.height >= 3 {
        let most = (rest.height - 2).min(3);
        write(frame, &mut rest, take_bottom, most, &text, style);
    }
    body(frame, rest, top, look);
    match &top.mode {
        Mode::Browse | Mode::Filter => {}
        Mode::Help => help(frame),
        Mode::Move(moving) => moving_box(frame, moving),
    }
}

fn take_top(rest: &mut Rect, height: u16) -> Rect {
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

fn take_bottom(rest: &mut Rect, height: u16) -> Rect {
    rest.height -= height;
    Rect {
        y: rest.y + rest.height,
        height,
        ..*rest
    }
}

/// Writes a text into lines that are taken from the rest, as many as it needs.
fn write(
    frame: &mut Frame<'_>,
    rest: &mut Rect,
    take: fn(&mut Rect, u16) -> Rect,
    most: u16,
    text: &str,
    style: Style,
) {
    let lines = (0..most).zip(wrapped(text, rest.width.into()));
    let lines: Vec<_> = lines.collect();
    let area = take(rest, u16::try_from(lines.len()).unwrap_or(most));
    for (y, line) in lines {
        put(frame, area, y, line, style);
    }
}

/// Breaks a text between words.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Who it is and how it goes, or why that is not known.
fn header(top: &Top, now: Duration, look: Look) -> (String, Style) {
    if let Some(trouble) = top.trouble(now) {
        return (trouble, look.error());
    }
    let Some(status) = &top.data.status else {
        return ("asking ...".to_owned(), PLAIN);
    };
    let Total {
        in_packets,
        in_bits,
        out_packets,
        out_bits,
    } = top.data.total();
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), short);
    let bits =
        |bits: Option<f64>| bits.map_or_else(String::new, |bits| format!(" {} bit/s", short(bits)));
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
    let mut text = format!(
        "{} ({}) up {uptime} | in {} pkt/s{} | out {} pkt/s{}",
        status.name,
        status.roles.join(", "),
        rate(in_packets),
        bits(in_bits),
        rate(out_packets),
        bits(out_bits),
    );
    if let Some(load) = top.data.load() {
        text += " | load ";
        text += &percent(load);
    }
    if let Some(drops) = sum(top.data.drops.counted().map(|d| d.rate(|d| d.packets))) {
        text += " | drops ";
        text += &short(drops);
        text += "/s";
    }
    (text, BOLD)
}

/// The views and which it is, and what is left out of it.
fn tabs(top: &Top) -> String {
    let tabs = (1..).zip(View::ALL).map(|(key, view)| {
        let title = view.title();
        if view == top.view {
            format!("[{key} {title}]")
        } else {
            format!(" {key} {title} ")
        }
    });
    let mut text: String = tabs.collect();
    if let Some((_, mn)) = &top.mobile {
        text += " > ";
        text += mn.as_str();
    }
    let filter = &top.outlook().filter;
    if !filter.is_empty() {
        return format!("{text}  {} with \"{filter}\"", top.grid.rows.len());
    }
    text
}

fn footer(top: &Top, look: Look) -> (String, Style) {
    if top.mode == Mode::Filter {
        return (format!("/{}_", top.outlook().filter), PLAIN);
    }
    match &top.said {
        Some(said) if said.error => (said.text.clone(), look.error()),
        Some(said) => (said.text.clone(), BOLD),
        None if top.mobile.is_some() => (
            "Esc back  m move this flow  / filter  Left Right sort  ? help  q quit".to_owned(),
            PLAIN,
        ),
        None => (
            "Tab next  Enter mobile  / filter  Left Right sort  r reverse  m move flow  ? help  q quit"
                .to_owned(),
            PLAIN,
        ),
    }
}

fn body(frame: &mut Frame<'_>, mut area: Rect, top: &Top, look: Look) {
    if let Some((role, mn)) = &top.mobile {
        let accesses = accesses_of(&top.data, *role, mn);
        let wanted = u16::try_from(accesses.rows.len()).unwrap_or(u16::MAX);
        // One line for the head, one for space.
        let height = wanted.saturating_add(2).min(area.height / 2);
        let part = take_top(&mut area, height);
        table(frame, part, &accesses, None, look);
    }
    table(frame, area, &top.grid, Some(top.outlook()), look);
    let below = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    if top.grid.rows.is_empty() && below.height > 0 {
        put(frame, below, 0, format!("  {}", nothing(top)), PLAIN);
    }
}

/// What to say where there are no rows.
fn nothing(top: &Top) -> &'static str {
    if top.data.status.is_none() {
        "(nothing is known yet)"
    } else if !top.outlook().filter.is_empty() {
        "(none with this text; Esc shows all)"
    } else if top.mobile.is_some() {
        "(no flow rules)"
    } else {
        "(none)"
    }
}

/// A head and as many rows as there is room for; those around the one that is pointed at, if one is.
fn table(frame: &mut Frame<'_>, area: Rect, grid: &Grid, outlook: Option<&Outlook>, look: Look) {
    if area.height == 0 {
        return;
    }
    let sort = outlook.and_then(|outlook| outlook.sort);
    let heads: Vec<String> = (grid.columns.iter().enumerate())
        .map(|(column, (head, _))| match sort {
            Some((sorted, true)) if sorted == column => format!("{head}▼"),
            Some((sorted, false)) if sorted == column => format!("{head}▲"),
            Some(_) | None => (*head).to_owned(),
        })
        .collect();
    let widths = widths(&heads, &grid.rows);
    let head = line(heads.iter().map(String::as_str), &widths, grid.columns);
    put(frame, area, 0, format!("  {head}"), BOLD);
    let room = usize::from(area.height - 1);
    let at = outlook.map(|outlook| outlook.at);
    let last = grid.rows.len().saturating_sub(room);
    let first = at.unwrap_or(0).saturating_sub(room / 2).min(last);
    let shown = grid.rows.iter().enumerate().skip(first).take(room);
    for (y, (number, row)) in (1..).zip(shown) {
        let texts = row.cells.iter().map(|cell| cell.text.as_str());
        let text = line(texts, &widths, grid.columns);
        let pointed = at == Some(number);
        let mark = if pointed { ">" } else { " " };
        let style = if row.loud { look.loud() } else { PLAIN };
        let style = if pointed { style.patch(POINTED) } else { style };
        put(frame, area, y, format!("{mark} {text}"), style);
    }
}

/// One line of an area; what does not fit is cut off.
fn put(frame: &mut Frame<'_>, area: Rect, y: u16, text: String, style: Style) {
    let area = Rect {
        y: area.y + y,
        height: 1,
        ..area
    };
    frame.render_widget(Paragraph::new(text).style(style), area);
}

fn width(text: &str) -> usize {
    Line::from(text).width()
}

fn widths(heads: &[String], rows: &[Row]) -> Vec<usize> {
    let column = |(number, head): (usize, &String)| {
        let cells = rows.iter().filter_map(|row| row.cells.get(number));
        let widest = cells.map(|cell| width(&cell.text)).max();
        widest.unwrap_or(0).max(width(head))
    };
    heads.iter().enumerate().map(column).collect()
}

fn line<'a>(texts: impl Iterator<Item = &'a str>, widths: &[usize], columns: &[Column]) -> String {
    let mut line = String::new();
    for ((text, wide), (_, number)) in texts.zip(widths).zip(columns) {
        let space = " ".repeat(wide.saturating_sub(width(text)));
        let (before, after) = if *number {
            (space, String::new())
        } else {
            (String::new(), space)
        };
        line.extend([before.as_str(), text, after.as_str(), "  "]);
    }
    line
}

fn help(frame: &mut Frame<'_>) {
    let keys = HELP.iter().map(|(keys, what)| format!("{keys:<14} {what}"));
    window(frame, " Keys ", keys.collect(), None);
}

fn moving_box(frame: &mut Frame<'_>, moving: &Move) {
    let title = format!(" Move flow {} of {} ", moving.fid, moving.mn);
    let mut lines = vec![moving.selector.clone()];
    if moving.chosen {
        let target = moving.targets.get(moving.at);
        lines.push(format!("to {}?", target.map_or("", |target| &target.text)));
        lines.push("Enter or y: move it    Esc or n: another access".to_owned());
        window(frame, &title, lines, None);
        return;
    }
    for (number, target) in moving.targets.iter().enumerate() {
        let mark = if number == moving.at { ">" } else { " " };
        lines.push(format!("{mark} {}", target.text));
    }
    lines.push("Enter: choose    Esc: leave it where it is".to_owned());
    window(frame, &title, lines, Some(moving.at + 1));
}

/// A box in the middle, with one of its lines pointed at.
fn window(frame: &mut Frame<'_>, title: &str, lines: Vec<String>, at: Option<usize>) {
    let whole = frame.area();
    let widest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
    let widest = widest.max(width(title)).saturating_add(4);
    let wide = u16::try_from(widest).unwrap_or(u16::MAX).min(whole.width);
    let high = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let high = high.min(whole.height);
    let area = Rect {
        x: whole.x + (whole.width - wide) / 2,
        y: whole.y + (whole.height - high) / 2,
        width: wide,
        height: high,
    };
    let room = usize::from(high.saturating_sub(2)).max(1);
    let first = at.unwrap_or(0).saturating_sub(room - 1);
    let styled = lines.into_iter().enumerate().map(|(number, text)| {
        let style = if at == Some(number) { POINTED } else { PLAIN };
        Line::styled(format!(" {text} "), style)
    });
    let shown: Vec<Line<'_>> = styled.skip(first).take(room).collect();
    let block = Block::bordered().title(title.to_owned());
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(shown).block(block), area);
}
