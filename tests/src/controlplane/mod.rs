//! A control plane program by program, so that each can be killed, and the judgement of all that its store has seen.
//!
//! [`programs`] runs it, [`history`] is what a watch of everything in the store gives, [`judge`](mod@judge) says what of
//! it no control plane may do.

pub mod history;
pub mod judge;
pub mod programs;
