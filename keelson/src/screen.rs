//! Where the launcher speaks: lines when standard output is a file or a pipe, and on a terminal the same lines
//! scrolling above a table that is repainted in place.

use std::io::{IsTerminal, Write, stdout};

use rustix::termios::tcgetwinsize;

use crate::row::COLUMNS;
use crate::table;
use crate::view::View;

const DEFAULT_WIDTH: u16 = 80;
const DEFAULT_HEIGHT: u16 = 24;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    colour: bool,
    /// How wide the lines of the table are that are on the terminal now, just above the cursor.
    painted: Vec<usize>,
}

impl Screen {
    pub fn new() -> Screen {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = stdout().is_terminal() && !dumb;
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen {
            live,
            colour,
            painted: Vec::new(),
        }
    }

    /// Says something, for good.
    pub fn say(&mut self, text: &str) {
        let erase = self.erase();
        self.write(&format!("{erase}{text}\n"));
    }

    /// Shows how all parts do now, on a terminal only.
    pub fn paint(&mut self, view: &View, footer: &str) {
        if !self.live {
            return;
        }
        let (width, height) = size();
        let mut lines = table::lines(&COLUMNS, &view.cells(), width, self.colour);
        lines.push(footer.chars().take(width).collect());
        // What scrolled out of sight could not be erased again.
        lines.truncate(height.saturating_sub(1));
        let erase = self.erase();
        self.painted = lines.iter().map(|line| table::width(line)).collect();
        let table: String = lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect();
        self.write(&format!("{erase}{table}"));
    }

    fn erase(&mut self) -> String {
        match rows(&std::mem::take(&mut self.painted), size().0) {
            0 => String::new(),
            // To the first column, up, and clear all below.
            rows => format!("\r\u{1b}[{rows}A\u{1b}[J"),
        }
    }

    /// A reader that went away is no reason to stop the cluster.
    fn write(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// How many rows these lines take on a terminal of this width: one that was made narrower has wrapped them.
fn rows(lines: &[usize], width: usize) -> usize {
    lines
        .iter()
        .map(|line| line.div_ceil(width.max(1)).max(1))
        .sum()
}

/// The table once, for standard output as it is.
pub fn table_once(view: &View) -> String {
    let screen = Screen::new();
    let width = if screen.live { size().0 } else { usize::MAX };
    table::lines(&COLUMNS, &view.cells(), width, screen.colour).join("\n")
}

/// The terminal's columns and lines.
fn size() -> (usize, usize) {
    let size = tcgetwinsize(stdout())
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (width, height) = size.map_or((DEFAULT_WIDTH, DEFAULT_HEIGHT), |size| {
        (size.ws_col, size.ws_row)
    });
    (usize::from(width), usize::from(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_erased_whole() {
        assert_eq!(rows(&[], 80), 0);
        assert_eq!(rows(&[80, 0, 33], 80), 3);
        assert_eq!(rows(&[80, 0, 33], 40), 2 + 1 + 1);
        assert_eq!(rows(&[80, 0, 33], 32), 3 + 1 + 2);
    }
}
