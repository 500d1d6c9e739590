//! What several controllers share; all of it pure.

pub mod conditions;
pub mod expectations;
pub mod meta;
pub mod owner;
pub mod pods;
pub mod template;
pub mod writes;
