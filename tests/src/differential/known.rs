//! Where two servers may differ, and why. What is not listed here, must be equal.

use super::command::Command;
use super::reply::Reply;

/// One difference that is meant: `forgive` makes two replies equal that differ for this reason, and touches
/// nothing else.
#[derive(Clone, Copy)]
pub struct Known {
    /// Why it is right that they differ.
    pub reason: &'static str,
    /// Removes from both replies what may differ.
    pub forgive: fn(&Command, &mut Reply, &mut Reply),
}

/// `kvd` beside etcd 3.5.1.
pub const KVD: &[Known] = &[];

/// etcd 3.4 beside etcd 3.5.1.
pub const ETCD_3_4: &[Known] = &[];
