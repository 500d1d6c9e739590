//! Columns for a terminal: aligned, cut to its width, coloured if it wants colour.

use std::fmt::Write;

const GAP: usize = 2;

/// A cell's text and how it looks.
#[derive(Debug, Clone)]
pub struct Cell {
    pub text: String,
    pub style: Style,
}

/// How a cell looks where colour is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Faint,
    Good,
    Bad,
}

impl Cell {
    pub fn plain(text: String) -> Cell {
        Cell {
            text,
            style: Style::Plain,
        }
    }
}

impl Style {
    fn codes(self) -> Option<&'static str> {
        match self {
            Style::Plain => None,
            Style::Faint => Some("2"),
            Style::Good => Some("32"),
            Style::Bad => Some("31"),
        }
    }
}

/// The lines of a table, none wider than `width` characters. A column whose name begins with `>` is set to the right.
pub fn lines(columns: &[&str], rows: &[Vec<Cell>], width: usize, colour: bool) -> Vec<String> {
    let names: Vec<&str> = columns
        .iter()
        .map(|name| name.trim_start_matches('>'))
        .collect();
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(place, name)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(place))
                .map(|cell| cell.text.chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let head: Vec<Cell> = names
        .iter()
        .map(|name| Cell {
            text: (*name).to_owned(),
            style: Style::Faint,
        })
        .collect();
    std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            let mut line = Line {
                text: String::new(),
                left: width,
                colour,
            };
            for ((cell, cell_width), column) in row.iter().zip(&widths).zip(columns) {
                let padding = cell_width.saturating_sub(cell.text.chars().count());
                if column.starts_with('>') {
                    line.push(&" ".repeat(padding), Style::Plain);
                    line.push(&cell.text, cell.style);
                } else {
                    line.push(&cell.text, cell.style);
                    line.push(&" ".repeat(padding), Style::Plain);
                }
                line.push(&" ".repeat(GAP), Style::Plain);
            }
            line.text.trim_end().to_owned()
        })
        .collect()
}

/// How many columns a line of ours takes: what begins with ESC and ends with `m` takes none.
pub fn width(line: &str) -> usize {
    let mut is_text = true;
    line.chars()
        .filter(|c| {
            let counts = is_text && *c != '\u{1b}';
            is_text = counts || (!is_text && *c == 'm');
            counts
        })
        .count()
}

struct Line {
    text: String,
    /// Characters that still fit.
    left: usize,
    colour: bool,
}

impl Line {
    fn push(&mut self, text: &str, style: Style) {
        let fits: String = text.chars().take(self.left).collect();
        self.left -= fits.chars().count();
        match style.codes().filter(|_| self.colour && !fits.is_empty()) {
            Some(codes) => {
                // Writing to a String cannot fail.
                let _ = write!(self.text, "\u{1b}[{codes}m{fits}\u{1b}[0m");
            }
            None => self.text.push_str(&fits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: usize, colour: bool) -> Vec<String> {
        let row = |name: &str, number: &str| {
            vec![
                Cell {
                    text: name.to_owned(),
                    style: Style::Good,
                },
                Cell::plain(number.to_owned()),
            ]
        };
        lines(
            &["NAME", ">LAG"],
            &[row("a", "1"), row("member", "1000")],
            width,
            colour,
        )
    }

    #[test]
    fn names_stand_left_and_numbers_right() {
        assert_eq!(
            table(80, false),
            ["NAME     LAG", "a          1", "member  1000"]
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_lines_and_never_wraps_them() {
        assert_eq!(table(9, false), ["NAME", "a", "member  1"]);
        assert_eq!(table(3, true)[2], "\u{1b}[32mmem\u{1b}[0m");
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let line = &table(80, true)[1];
        assert_eq!(line, "\u{1b}[32ma\u{1b}[0m          1");
        assert_eq!(width(line), "a          1".len());
    }
}
