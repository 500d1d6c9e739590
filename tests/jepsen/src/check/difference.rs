//! Where a reply differs from what it should be, in words.

use std::cmp::Ordering;

use super::words;
use crate::history::{Call, Kv, Range, Reply, Revision, Step, Txn};

/// Where a reply differs from what it should be.
pub struct Difference {
    /// The end of a sentence that begins with the operation.
    pub words: String,
    /// The revision whose change was not seen, or should not have been.
    pub about: Option<Revision>,
}

impl From<&str> for Difference {
    fn from(words: &str) -> Difference {
        Difference {
            words: words.to_owned(),
            about: None,
        }
    }
}

/// Where a reply differs from what it should be. Reads of the past within transactions are left out.
pub fn difference(call: &Call, should: &Reply, is: &Reply) -> Option<Difference> {
    match (call, should, is) {
        (Call::Range(range), _, _) => read_difference(range, should, is),
        (Call::Txn(txn), _, _) => txn_difference(txn, should, is),
        _ => write_difference(should, is),
    }
}

fn txn_difference(txn: &Txn, should: &Reply, is: &Reply) -> Option<Difference> {
    let (
        Reply::Txn {
            succeeded: should_succeed,
            responses: should_be,
        },
        Reply::Txn {
            succeeded,
            responses,
        },
    ) = (should, is)
    else {
        return Some("was not answered as a transaction".into());
    };
    if should_succeed != succeeded {
        return Some(if *succeeded {
            "succeeded, although its conditions did not hold".into()
        } else {
            "failed, although its conditions held".into()
        });
    }
    let steps = if *succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    if responses.len() != steps.len() {
        return Some("was not told of each of its steps".into());
    }
    let mut differences =
        steps
            .iter()
            .zip(should_be)
            .zip(responses)
            .filter_map(|((step, should), is)| match step {
                Step::Range(range) if range.revision.0 > 0 => None,
                Step::Range(range) => read_difference(range, should, is),
                Step::Txn(txn) => txn_difference(txn, should, is),
                Step::Put(_) | Step::Delete(_) => write_difference(should, is),
            });
    differences.next()
}

/// Where a read's reply differs from what it should be.
pub fn read_difference(range: &Range, should: &Reply, is: &Reply) -> Option<Difference> {
    let (
        Reply::Range {
            kvs: should_be,
            count: should_count,
            more: should_more,
        },
        Reply::Range { kvs, count, more },
    ) = (should, is)
    else {
        return Some("was not answered as a read".into());
    };
    for (should, is) in should_be.iter().zip(kvs) {
        // From etcd 3.7 on, reading only keys leaves the lease out.
        let same = if range.keys_only {
            Kv {
                lease: is.lease,
                ..should.clone()
            } == *is
        } else {
            should == is
        };
        if same {
            continue;
        }
        return Some(match should.key.cmp(&is.key) {
            Ordering::Less => missed(should),
            Ordering::Greater => found(is),
            Ordering::Equal => Difference {
                words: format!("found {} where it was {}", words::kv(is), words::kv(should)),
                about: Some(should.mod_revision),
            },
        });
    }
    if let Some(missing) = should_be.get(kvs.len()) {
        return Some(missed(missing));
    }
    if let Some(extra) = kvs.get(should_be.len()) {
        return Some(found(extra));
    }
    if should_count != count {
        let words = format!("counted {count} keys where there were {should_count}");
        return Some(words.as_str().into());
    }
    (should_more != more).then(|| {
        if *more {
            "was told that there is more, and there was not".into()
        } else {
            "was told that there is no more, and there was".into()
        }
    })
}

fn missed(kv: &Kv) -> Difference {
    Difference {
        words: format!("did not find {}", words::kv(kv)),
        about: Some(kv.mod_revision),
    }
}

fn found(kv: &Kv) -> Difference {
    Difference {
        words: format!("found {}, which was not there", words::kv(kv)),
        about: Some(kv.mod_revision),
    }
}

fn write_difference(should: &Reply, is: &Reply) -> Option<Difference> {
    if should == is {
        return None;
    }
    let words = match (should, is) {
        (Reply::Put { prev_kv: should }, Reply::Put { prev_kv: is }) => format!(
            "was told that {} was there before, and it was {}",
            before(is.as_ref()),
            before(should.as_ref())
        ),
        (
            Reply::Delete {
                deleted: should, ..
            },
            Reply::Delete { deleted: is, .. },
        ) if should != is => format!("deleted {is} keys where there were {should}"),
        (Reply::Delete { .. }, Reply::Delete { .. }) => {
            "was told of other keys than it deleted".to_owned()
        }
        _ => "was answered as something else".to_owned(),
    };
    Some(words.as_str().into())
}

fn before(kv: Option<&Kv>) -> String {
    kv.map_or_else(|| "nothing".to_owned(), words::kv)
}
