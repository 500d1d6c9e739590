//! Tells a person what came of a run: in words for a terminal, and as one page with a timeline.

mod page;
mod summary;
mod timeline;
mod verdict;

#[cfg(test)]
mod tests;

pub use page::page;
pub use verdict::words;
