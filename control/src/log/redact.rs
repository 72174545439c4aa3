//! Addresses out of lines: what identifies a mobile or its neighbours is not for everybody who may read a log.
//!
//! A line is cut into runs of hexadecimal digits, colons and full stops; where such a run, or a part of it that
//! ends where groups do, is an address in any of the usual notations, a word takes its place. What only looks
//! similar stays: times, versions, `file:line:column`, and paths of Rust, whose names never begin with a digit.
//! Of what could be either, it is taken for an address.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest address in text: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const LONGEST: usize = 45;
/// Groups of a link-layer address.
const OCTETS: usize = 6;

/// What an address was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    LinkLayer,
    Address,
    Prefix,
}

impl Kind {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::LinkLayer => b"<link-layer>",
            Self::Address => b"<address>",
            Self::Prefix => b"<prefix>",
        }
    }
}

/// A line without its addresses. It stays what it was otherwise: text, or JSON.
pub(super) fn redacted(line: &[u8]) -> Vec<u8> {
    let line = Line(line);
    let mut out = Vec::with_capacity(line.0.len());
    // What lies before `edge` touches nothing behind it.
    let (mut at, mut edge) = (0, 0);
    while let Some(octet) = line.at(at) {
        let (kind, end) = if let Some(end) = line.escape(at) {
            edge = end;
            (None, end)
        } else if let Some(end) = line.dashed(at, edge) {
            (Some(Kind::LinkLayer), end)
        } else if is_run(octet) {
            let end = line.run_end(at, edge);
            match line.find(at, end, edge) {
                Some((kind, from, to)) => {
                    out.extend(line.part(at, from));
                    at = from;
                    (Some(kind), to)
                }
                None => (None, end),
            }
        } else {
            (None, at + 1)
        };
        if let Some(kind) = kind {
            let (kind, end) = line.with_length(kind, end);
            out.extend(kind.word());
            at = end;
        } else {
            out.extend(line.part(at, end));
            at = end;
        }
    }
    out
}

fn is_run(octet: u8) -> bool {
    octet.is_ascii_hexdigit() || is_separator(octet)
}

fn is_separator(octet: u8) -> bool {
    matches!(octet, b':' | b'.')
}

/// Whether it may be part of a name.
fn is_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_'
}

#[derive(Clone, Copy)]
struct Line<'l>(&'l [u8]);

impl<'l> Line<'l> {
    fn at(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// The octet before, if there is one and it is not before `edge`.
    fn before(self, at: usize, edge: usize) -> Option<u8> {
        let before = at.checked_sub(1).filter(|before| *before >= edge)?;
        self.at(before)
    }

    fn part(self, from: usize, to: usize) -> &'l [u8] {
        self.0.get(from..to).unwrap_or_default()
    }

    /// Where the octets that `is` holds for end.
    fn skip(self, from: usize, is: impl Fn(u8) -> bool) -> usize {
        let rest = self.0.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|octet| is(**octet)).count()
    }

    /// The end of a run, or the start of a link-layer address with dashes in it.
    fn run_end(self, at: usize, edge: usize) -> usize {
        let end = self.skip(at, is_run);
        let mut rest = at + 1..end;
        rest.find(|at| self.dashed(*at, edge).is_some())
            .unwrap_or(end)
    }

    /// The end of an escape, whose letters are not those of a word after it: that of a character in JSON or in a
    /// string of Rust, or that of a colour on a terminal.
    fn escape(self, at: usize) -> Option<usize> {
        let (end, colours) = match self.at(at)? {
            0x1b => (at + 1, true),
            b'\\' => {
                let at = self.skip(at, |octet| octet == b'\\');
                match self.at(at) {
                    Some(b'n' | b't' | b'r' | b'b' | b'f' | b'0' | b'"' | b'\'') => (at + 1, false),
                    Some(b'u') if self.at(at + 1) == Some(b'{') => {
                        let end = self.skip(at + 2, |octet| octet.is_ascii_hexdigit());
                        (end, self.part(at + 2, end) == b"1b")
                    }
                    Some(b'u') => self.digits(at + 1, 4),
                    Some(b'x') => self.digits(at + 1, 2),
                    Some(_) | None => (at, false),
                }
            }
            _ => return None,
        };
        // The brace of `\u{1b}`, if that is what it was.
        let end = self.skip(end, |octet| octet == b'}').min(end + 1);
        if !colours || self.at(end) != Some(b'[') {
            return Some(end);
        }
        let last = self.skip(end + 1, |octet| octet.is_ascii_digit() || octet == b';');
        let complete = self
            .at(last)
            .is_some_and(|octet| octet.is_ascii_alphabetic());
        Some(if complete { last + 1 } else { end })
    }

    /// The end of up to so many digits of an escape, and whether they are those of the character that begins a
    /// colour.
    fn digits(self, from: usize, most: usize) -> (usize, bool) {
        let end = self.skip(from, |octet| octet.is_ascii_hexdigit());
        let end = end.min(from + most);
        (end, self.part(from, end).ends_with(b"1b"))
    }

    /// The end of a link-layer address of the form `02-00-00-00-01-01`.
    fn dashed(self, at: usize, edge: usize) -> Option<usize> {
        if self.before(at, edge).is_some_and(is_name) {
            return None;
        }
        let mut end = at;
        for group in 0.. {
            let from = if group == 0 { at } else { end + 1 };
            let dash = group == 0 || self.at(end) == Some(b'-');
            if !dash || self.skip(from, is_name) != from + 2 || !self.is_hex(from, from + 2) {
                return (group >= OCTETS).then_some(end);
            }
            end = from + 2;
        }
        None
    }

    fn is_hex(self, from: usize, to: usize) -> bool {
        self.part(from, to).iter().all(u8::is_ascii_hexdigit)
    }

    /// What of a run has to go, from the start of the first address to the end of the last.
    fn find(self, from: usize, to: usize, edge: usize) -> Option<(Kind, usize, usize)> {
        let mut found: Option<(Kind, usize, usize)> = None;
        for start in (from..to).filter(|at| self.is_start(from, *at)) {
            let most = to.min(start + LONGEST);
            let ends = (start + 2..=most).rev();
            let mut ends = ends.filter(|end| self.is_end(*end, to));
            let kind = ends.find_map(|end| Some((self.kind(start, end, edge)?, end)));
            if let Some((kind, end)) = kind {
                found = Some(match found {
                    Some((known, first, last)) => (known.max(kind), first, last.max(end)),
                    None => (kind, start, end),
                });
            }
        }
        found
    }

    /// Whether a group begins here, or the two colons that stand for some.
    fn is_start(self, from: usize, at: usize) -> bool {
        let separated = self.before(at, from).is_none_or(is_separator);
        separated || self.part(at, at + 2) == b"::"
    }

    fn is_end(self, end: usize, to: usize) -> bool {
        let separated = end == to || self.at(end).is_some_and(is_separator);
        separated || self.part(end.saturating_sub(2), end) == b"::"
    }

    /// What this part is, if it is an address, and what is around it does not make it something else.
    fn kind(self, start: usize, end: usize, edge: usize) -> Option<Kind> {
        let text = self.part(start, end);
        let (before, after) = (self.before(start, edge), self.at(end));
        if before.is_some_and(is_name) || after.is_some_and(is_name) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        // It hides nothing, and more colons are something else.
        if text == "::" && (before == Some(b':') || after == Some(b':')) {
            return None;
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return (!self.is_path(text, start, end, edge)).then_some(Kind::Address);
        }
        // One number more is something else that is counted, such as a version.
        let longer = self.continues(start, end, edge);
        if text.parse::<Ipv4Addr>().is_ok() && !longer {
            return Some(Kind::Address);
        }
        let groups = |separator, digits: std::ops::RangeInclusive<usize>| {
            let fits = |group: &str| {
                digits.contains(&group.len()) && group.bytes().all(|o| o.is_ascii_hexdigit())
            };
            let mut groups = text.split(separator);
            groups.all(fits).then(|| text.split(separator).count())
        };
        let colons = groups(':', 1..=2) == Some(OCTETS);
        let dots = groups('.', 4..=4) == Some(OCTETS / 2) && !longer;
        (colons || dots).then_some(Kind::LinkLayer)
    }

    /// Whether it may be names of Rust, which could be made of the letters of hexadecimal digits: then no group
    /// begins with a digit.
    fn is_path(self, text: &str, start: usize, end: usize, edge: usize) -> bool {
        let colons = |part: &[u8]| part == b"::";
        let before = self.before(start, edge);
        let led = start >= edge + 2 && colons(self.part(start.saturating_sub(2), start));
        // As in `Vec<u8>::add`.
        let of_type = before == Some(b'>') && text.starts_with("::");
        let followed = colons(self.part(end, end + 2));
        let mut groups = text.split(':');
        let number = groups.any(|group| group.starts_with(|first: char| first.is_ascii_digit()));
        (led || of_type || followed) && !number
    }

    /// Whether there is one more number before or after, with a full stop between.
    fn continues(self, start: usize, end: usize, edge: usize) -> bool {
        let digit = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_digit());
        let before = self.before(start, edge) == Some(b'.')
            && digit(self.before(start.saturating_sub(1), edge));
        before || self.at(end) == Some(b'.') && digit(self.at(end + 1))
    }

    /// With the length of a prefix, if one follows.
    fn with_length(self, kind: Kind, end: usize) -> (Kind, usize) {
        if kind != Kind::Address || self.at(end) != Some(b'/') {
            return (kind, end);
        }
        let to = self.skip(end + 1, is_name);
        let length = std::str::from_utf8(self.part(end + 1, to)).ok();
        match length.and_then(|length| length.parse::<u8>().ok()) {
            Some(0..=128) => (Kind::Prefix, to),
            Some(_) | None => (kind, end),
        }
    }
}

#[cfg(test)]
mod tests;
