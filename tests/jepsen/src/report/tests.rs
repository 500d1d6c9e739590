use super::{page, words};
use crate::check::{Checker, Verdict, Violation, judge};
use crate::history::{
    Call, ClientId, ConnectionId, Fault, Header, History, MemberIndex, Micros, Operation,
    OperationId, Outcome, Put, Reply, Revision, Run, StreamId, Workload,
};

fn history(operations: u64) -> History {
    let mut history = History {
        run: Run {
            seed: 7,
            target: "kvd".to_owned(),
            command: "jepsen --seed 7".to_owned(),
            ..Run::default()
        },
        ..History::default()
    };
    for id in 1..=operations {
        history.operations.push(Operation {
            id: OperationId(id),
            workload: Workload::Register,
            client: ClientId((id % 5) as u32),
            member: MemberIndex(1),
            connection: ConnectionId(1),
            call: Call::Put(Put {
                key: "</script><b>".into(),
                value: id.to_string().into(),
                ..Put::default()
            }),
            start: Micros(id * 100),
            end: Micros(id * 100 + 80),
            outcome: Outcome::Done {
                header: Header {
                    revision: Revision(id as i64 + 1),
                    ..Header::default()
                },
                reply: Reply::Put { prev_kv: None },
            },
        });
    }
    history
}

fn wrong(operations: &[u64]) -> Verdict {
    Verdict {
        violations: vec![Violation {
            checker: Checker::Replay,
            sentence: "The key </script><b> is wrong.".to_owned(),
            operations: operations.iter().map(|id| OperationId(*id)).collect(),
            watches: vec![StreamId(1)],
            at: Micros(5),
        }],
        ..Verdict::default()
    }
}

#[test]
fn the_last_words_are_the_verdict_and_how_to_repeat_it() {
    let text = words(&history(1200), &wrong(&[3]));
    assert!(text.contains("1. [replay] The key"), "{text}");
    let end = "NOT VALID: 1 violation in 1,200 operations on kvd under 0 faults.\nAgain: jepsen --seed 7\n";
    assert!(text.ends_with(end), "{text}");
    let valid = words(&history(1), &Verdict::default());
    assert!(
        valid.ends_with("VALID: no contradiction in 1 operations on kvd under 0 faults.\n"),
        "{valid}"
    );
    let open = Verdict {
        inconclusive: vec!["Nobody knows.".to_owned()],
        ..Verdict::default()
    };
    let open = words(&history(1), &open);
    assert!(
        open.contains("Not judged: Nobody knows.") && open.contains("INCONCLUSIVE"),
        "{open}"
    );
}

#[test]
fn what_keys_hold_cannot_break_the_page() {
    let page = page(&history(10), &wrong(&[3]));
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<b> is wrong"));
    assert!(page.contains("&lt;/script&gt;&lt;b&gt; is wrong"));
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = page(&history(10), &wrong(&[3]));
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn a_page_of_a_long_run_stays_small_and_keeps_what_is_blamed() {
    let mut history = history(250_000);
    history.faults.push(Fault {
        name: "kill".to_owned(),
        members: vec![MemberIndex(1)],
        detail: String::new(),
        start: Micros(100),
        end: None,
    });
    let page = page(&history, &wrong(&[3, 249_000]));
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
    assert!(page.contains("[3,") && page.contains("[249000,"));
    assert!(page.contains("\"all\":250000"));
}

#[test]
fn what_the_runner_itself_found_is_a_violation() {
    let mut history = history(0);
    history.found.push("m2 ended by itself.".to_owned());
    let verdict = judge(&history);
    assert!(words(&history, &verdict).contains("[run] m2 ended by itself."));
}
