use std::io::Write as _;
use std::path::Path;

use super::*;

fn everything() -> History {
    let mut history = History::default();
    history.run.seed = 7;
    let binary = Data(vec![0xff, 0, b'a'].into());
    let compare = Compare {
        key: "k".into(),
        range_end: Data::default(),
        result: CompareResult::NotEqual,
        target: Target::Value(binary.clone()),
    };
    let kv = Kv {
        key: "\0 </script>".into(),
        value: binary,
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 2,
        lease: LeaseId(-5),
    };
    let call = Call::Txn(Txn {
        compares: vec![compare],
        success: vec![Step::Delete(Delete::default()), Step::Put(Put::default())],
        failure: vec![Step::Txn(Txn::default()), Step::Range(Range::default())],
    });
    let outcome = Outcome::Done {
        header: Header {
            revision: Revision(3),
            member_id: u64::MAX,
            term: 2,
        },
        reply: Reply::Txn {
            succeeded: true,
            responses: vec![
                Reply::Delete {
                    deleted: 1,
                    prev_kvs: vec![kv.clone()],
                },
                Reply::Put { prev_kv: None },
            ],
        },
    };
    history.push(Record::Operation(Operation {
        id: OperationId(1),
        workload: Workload::Bank,
        client: ClientId(2),
        member: MemberIndex(3),
        connection: ConnectionId(4),
        call,
        start: Micros(5),
        end: Micros(6),
        outcome,
    }));
    history.push(Record::Watch(WatchStream {
        id: StreamId(1),
        watcher: "w".to_owned(),
        workload: Workload::Watch,
        recorder: true,
        member: MemberIndex(1),
        connection: ConnectionId(1),
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: Revision(1),
        prev_kv: true,
        no_put: false,
        no_delete: true,
        progress_notify: true,
        fragment: false,
        start: Micros(1),
        end: Micros(9),
        ended: None,
        responses: vec![WatchResponse {
            events: vec![Event {
                kind: EventKind::Delete,
                kv: kv.clone(),
                prev_kv: Some(kv.clone()),
            }],
            ..WatchResponse::default()
        }],
    }));
    history.push(Record::Act(Act {
        operations: vec![OperationId(1)],
        workload: Workload::Append,
        client: ClientId(1),
        start: Micros(1),
        end: Micros(2),
        deed: Deed::Lists(vec![ListStep::Append {
            key: "l".to_owned(),
            element: 1,
        }]),
        settled: Settled::Unknown,
    }));
    history.push(Record::Ending(Ending {
        member: MemberIndex(1),
        revision: Revision(3),
        hash: Hashed::default(),
        kvs: vec![kv],
    }));
    history.push(Record::Fault(Fault {
        name: "kill-one".to_owned(),
        members: vec![MemberIndex(1)],
        detail: String::new(),
        start: Micros(1),
        end: None,
    }));
    history.push(Record::Found("m1 ended by itself".to_owned()));
    history.push(Record::Note("a note".to_owned()));
    history
}

fn write(path: &Path, history: &History) {
    let mut writer = Writer::create(path).expect("the file is made");
    for record in history.records() {
        writer.write(&record).expect("the record is written");
    }
    writer.finish().expect("the file is written");
}

fn append(path: &Path, text: &str) {
    let file = std::fs::OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("the file is written");
}

#[test]
fn a_written_history_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.jsonl");
    write(&path, &everything());
    assert_eq!(History::load(&path).expect("it is read"), everything());
}

#[test]
fn a_last_line_that_was_cut_is_left_out_with_a_note() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.jsonl");
    write(&path, &everything());
    append(&path, "{\"note\":\"cu");
    let history = History::load(&path).expect("it is read");
    assert_eq!(history.operations, everything().operations);
    assert!(
        history.notes[1].contains("is cut off"),
        "{:?}",
        history.notes
    );
}

#[test]
fn what_is_no_history_is_refused_in_one_line_that_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history.jsonl");
    let missing = History::load(&path).expect_err("it is not there");
    assert!(
        missing.to_string().contains("history.jsonl: No such file"),
        "{missing}"
    );
    write(&path, &everything());
    append(&path, "{\"nonsense\":1}\n{\"note\":\"more\"}\n");
    let broken = History::load(&path).expect_err("a line is no record");
    assert!(
        broken.to_string().contains("line 9: not a record"),
        "{broken}"
    );
    std::fs::write(&path, "").expect("it is emptied");
    let empty = History::load(&path).expect_err("there is nothing");
    assert!(empty.to_string().contains("holds no history"), "{empty}");
    std::fs::write(&path, "{\"note\":\"no run\"}\n").expect("it is written");
    let headless = History::load(&path).expect_err("it has no head");
    assert!(
        headless.to_string().contains("must tell the run"),
        "{headless}"
    );
    let again = Writer::create(&path).err().expect("it is there");
    assert!(again.to_string().contains("File exists"), "{again}");
}

#[test]
fn the_end_of_a_prefix_is_the_first_key_behind_it() {
    assert_eq!(prefix_end(b"a/"), Data::from("a0"));
    assert_eq!(prefix_end(&[b'a', 0xff, 0xff]), Data::from("b"));
    assert_eq!(prefix_end(&[0xff]), Data::from("\0"));
}
