//! Tells what came of a run: to a person in words for a terminal, and as one page with a timeline; to a program as JSON.

mod judgement;
mod page;
mod summary;
mod timeline;
mod verdict;

#[cfg(test)]
mod tests;

pub use judgement::Judgement;
pub use page::page;
pub use summary::count;
pub use verdict::words;
