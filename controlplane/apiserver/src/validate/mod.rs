//! Rules that objects of every kind obey.

pub mod metadata;
pub mod names;
pub mod pods;
pub mod selectors;
