//! etcd's rules for watches, one by one, on a real store.

mod support;

use keelson_proto::commandpb::command::Request;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use keelson_watch::{Options, Stats};
use support::*;

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision,
        raft_term: TERM,
    })
}

fn refused(revision: i64, reason: &str) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: reason.into(),
        ..Default::default()
    }
}

fn progress(revision: i64, watch_id: i64) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        watch_id,
        ..Default::default()
    }
}

fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..request
    }
}

#[test]
fn a_watch_is_created_at_the_present_revision_and_gets_what_comes_after_it() {
    let mut rig = Rig::new(options());
    rig.put("a", "0");
    let mut client = rig.client();
    let created = client.created(create_range("a", "c"));
    assert_eq!(
        created,
        WatchResponse {
            header: header(2),
            created: true,
            ..Default::default()
        }
    );
    rig.put("a", "1");
    rig.put("c", "1");
    rig.txn(vec![put_op("b", "2"), put_op("z", "2"), put_op("a", "2")]);
    rig.delete("a");
    assert_eq!(
        shown(&client.all()),
        ["0@3: a=1(3)", "0@5: b=2(5) a=2(5)", "0@6: -a(6)"]
    );
}

#[test]
fn revisions_that_are_applied_together_come_in_one_message() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.created(create_range("a", "z"));
    rig.apply(vec![
        Request::Put(put("a", "1")),
        Request::Put(put("zz", "1")),
        Request::Put(put("b", "1")),
    ]);
    assert_eq!(shown(&client.all()), ["0@4: a=1(2) b=1(4)"]);
}

#[test]
fn ids_are_given_out_from_zero_around_those_that_clients_choose() {
    let rig = Rig::new(options());
    let mut client = rig.client();
    let mut id = |watch_id| {
        client.created(WatchCreateRequest {
            watch_id,
            ..create("a")
        })
    };
    assert_eq!(
        [0, 1, 2, 0].map(&mut id).map(|created| created.watch_id),
        [0, 1, 2, 3]
    );
    assert_eq!(
        id(2),
        refused(1, "mvcc: duplicate watch ID provided on the WatchStream")
    );
    client.cancel(2);
    assert!(
        client
            .next()
            .is_some_and(|response| response.canceled && response.watch_id == 2)
    );
    assert_eq!(
        client
            .created(WatchCreateRequest {
                watch_id: 2,
                ..create("a")
            })
            .watch_id,
        2
    );
}

#[test]
fn a_start_in_the_past_delivers_what_happened_since_from_the_ring_and_from_the_log() {
    for ring_bytes in [0, 300, 1 << 20] {
        let mut rig = Rig::new(Options {
            ring_bytes,
            ..options()
        });
        for value in ["1", "2", "3"] {
            rig.put("a", value);
            rig.put("other", value);
        }
        let mut client = rig.client();
        let created = client.created(from(4, create("a")));
        assert_eq!(created.header, header(7));
        assert_eq!(client.next(), None);
        rig.catch_up();
        assert_eq!(shown(&client.all()), ["0@7: a=2(4) a=3(6)"]);
        rig.put("a", "4");
        assert_eq!(shown(&client.all()), ["0@8: a=4(8)"]);
    }
}

#[test]
fn a_start_in_the_future_delivers_nothing_before_it() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    assert_eq!(client.created(from(4, create("a"))).header, header(1));
    assert_eq!(client.created(from(2, create("a"))).watch_id, 1);
    for value in ["1", "2", "3"] {
        rig.put("a", value);
    }
    rig.catch_up();
    assert_eq!(
        shown(&client.all()),
        ["1@2: a=1(2)", "1@3: a=2(3)", "0@4: a=3(4)", "1@4: a=3(4)"]
    );
}

#[test]
fn a_start_below_the_compacted_revision_is_created_and_canceled_and_one_at_it_delivers() {
    let mut rig = Rig::new(options());
    for value in ["1", "2", "3"] {
        rig.put("a", value);
    }
    rig.compact(3);
    let mut client = rig.client();
    let created = client.created(from(2, create("a")));
    assert_eq!((created.header, created.canceled), (header(4), false));
    let canceled = client.next();
    let expected = WatchResponse {
        header: header(0),
        canceled: true,
        compact_revision: 3,
        ..Default::default()
    };
    assert_eq!(canceled, Some(expected));

    client.created(from(3, create("a")));
    rig.catch_up();
    assert_eq!(shown(&client.all()), ["1@4: a=2(3) a=3(4)"]);
}

#[test]
fn a_compaction_does_not_cancel_a_slow_watch_whose_events_are_still_in_memory() {
    let mut rig = Rig::new(Options {
        stream_bytes: 1024,
        ..options()
    });
    let mut client = rig.client();
    client.created(create("a"));
    for value in ["1", "2", "3", "4"] {
        rig.put("a", &value.repeat(600));
    }
    assert_eq!(rig.hub.stats().slow_watchers, 1);
    rig.compact(5);
    let mut revisions = Vec::new();
    while let Some(response) = client.next() {
        assert!(!response.canceled, "{response:?}");
        let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
        revisions.extend(kvs.map(|kv| kv.mod_revision));
        rig.catch_up();
    }
    assert_eq!(revisions, [2, 3, 4, 5]);
}

#[test]
fn a_compaction_that_passes_a_watch_still_catching_up_cancels_it() {
    let mut rig = Rig::new(Options {
        ring_bytes: 0,
        ..options()
    });
    for value in ["1", "2", "3"] {
        rig.put("a", value);
    }
    let mut client = rig.client();
    client.created(from(2, create("a")));
    rig.compact(3);
    rig.catch_up();
    let canceled = client.all();
    assert_eq!(canceled.len(), 1);
    assert!(
        canceled[0].canceled
            && canceled[0].compact_revision == 3
            && canceled[0].header == header(0)
    );
    assert_eq!(rig.hub.stats().watchers, 0);
}

#[test]
fn what_cannot_be_watched_is_refused_with_etcds_reasons() {
    let mut rig = Rig::new(options());
    rig.put("a", "1");
    let mut client = rig.client();
    client.create(from(-1, create("a")));
    client.create(create_range("b", "b"));
    client.create(create_range("b", "a"));
    assert_eq!(
        client.all(),
        [
            refused(2, "etcdserver: mvcc: required revision has been compacted"),
            refused(2, "mvcc: watcher range is empty"),
            refused(2, "mvcc: watcher range is empty"),
        ]
    );
}

/// etcd 3.7's answer. 3.5.1 creates the watch; then, once anything was compacted, it cancels it with the compacted revision,
/// and before that it takes the number for one beyond all revisions, so that the watch misses what there is.
#[test]
fn a_negative_start_gets_one_refusal_whatever_was_compacted_and_leaves_no_watch() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    let answer = |revision| {
        refused(
            revision,
            "etcdserver: mvcc: required revision has been compacted",
        )
    };
    let ask = |client: &mut Client| {
        client.create(from(-1, create("a")));
        client.create(WatchCreateRequest {
            watch_id: 7,
            ..from(i64::MIN, create_range("", "\0"))
        });
        client.all()
    };
    assert_eq!(ask(&mut client), [answer(1), answer(1)]);
    for value in ["1", "2", "3"] {
        rig.put("a", value);
    }
    rig.compact(3);
    assert_eq!(ask(&mut client), [answer(4), answer(4)]);

    assert_eq!(rig.hub.stats().watchers, 0);
    let seventh = WatchCreateRequest {
        watch_id: 7,
        ..create("a")
    };
    assert_eq!(client.created(seventh).watch_id, 7, "the id is still free");
    rig.put("a", "4");
    assert_eq!(shown(&client.all()), ["7@5: a=4(5)"]);
}

#[test]
fn watches_beyond_the_bounds_are_refused_as_too_many_requests() {
    let rig = Rig::new(Options {
        stream_watches: 2,
        watch_bytes: 4000,
        ..options()
    });
    let (mut first, mut second) = (rig.client(), rig.client());
    first.created(create("a"));
    first.created(create("a"));
    assert_eq!(
        first.created(create("a")),
        refused(1, "etcdserver: too many requests")
    );
    assert_eq!(
        second.created(create(&"k".repeat(4000))),
        refused(1, "etcdserver: too many requests")
    );
    drop(first);
    assert!(
        !second.created(create(&"k".repeat(3000))).canceled,
        "a dropped stream gives its room back"
    );
}

#[test]
fn a_cancel_is_answered_once_and_ends_the_events() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.created(create("a"));
    rig.put("a", "1");
    client.cancel(0);
    client.cancel(0);
    client.cancel(7);
    rig.put("a", "2");
    let all = client.all();
    assert_eq!(show(&all[0]), "0@2: a=1(2)");
    assert_eq!(
        all[1..],
        [WatchResponse {
            header: header(2),
            canceled: true,
            ..Default::default()
        }]
    );
}

#[test]
fn previous_values_come_with_those_watches_that_asked_for_them() {
    let mut rig = Rig::new(options());
    rig.put("a", "1");
    let mut client = rig.client();
    client.created(WatchCreateRequest {
        prev_kv: true,
        ..create("a")
    });
    client.created(create("a"));
    rig.put("a", "2");
    rig.delete("a");
    rig.put("a", "3");
    let previous: Vec<Vec<Option<String>>> = client
        .all()
        .iter()
        .map(|response| {
            let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            response
                .events
                .iter()
                .map(|event| event.prev_kv.as_ref().map(|kv| value(&kv.value)))
                .collect()
        })
        .collect();
    let some = |value: &str| vec![Some(value.to_owned())];
    let mut expected = [
        some("1"),
        vec![None],
        some("2"),
        vec![None],
        vec![None],
        vec![None],
    ];
    let mut previous = previous;
    expected.sort();
    previous.sort();
    assert_eq!(previous, expected);
}

#[test]
fn filtered_events_are_left_out_and_a_message_without_events_is_not_sent() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.created(WatchCreateRequest {
        filters: vec![FilterType::Noput as i32],
        ..create_range("a", "z")
    });
    client.created(WatchCreateRequest {
        filters: vec![FilterType::Nodelete as i32],
        ..create_range("a", "z")
    });
    client.created(WatchCreateRequest {
        filters: vec![FilterType::Noput as i32, FilterType::Nodelete as i32, 17],
        ..create_range("a", "z")
    });
    rig.put("a", "1");
    rig.delete("a");
    assert_eq!(shown(&client.all()), ["1@2: a=1(2)", "0@3: -a(3)"]);

    client.created(WatchCreateRequest {
        filters: vec![FilterType::Noput as i32],
        ..from(1, create("a"))
    });
    rig.catch_up();
    assert_eq!(shown(&client.all()), ["3@3: -a(3)"]);
}

#[test]
fn manual_progress_is_answered_for_the_stream_when_all_its_watches_are_synced_and_dropped_otherwise()
 {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.progress();
    assert_eq!(client.next(), None, "there is nothing to tell about");
    client.created(create("a"));
    rig.put("b", "1");
    client.progress();
    assert_eq!(client.all(), [progress(2, -1)]);

    client.created(from(1, create("b")));
    client.progress();
    assert_eq!(client.next(), None, "one is catching up");
    rig.catch_up();
    client.progress();
    assert_eq!(client.all().pop(), Some(progress(2, -1)));

    let future = client.created(from(3, create("c"))).watch_id;
    client.progress();
    assert_eq!(client.next(), None, "one starts in the future");
    rig.put("z", "1");
    client.progress();
    assert_eq!(client.all(), [progress(3, -1)]);

    let far = client.created(from(1000, create("c"))).watch_id;
    client.progress();
    client.cancel(far);
    client.progress();
    let last = client.all();
    assert!(
        last[0].canceled && last[1] == progress(3, -1) && last.len() == 2,
        "{future} {last:?}"
    );
}

#[test]
fn progress_comes_behind_the_events_that_it_speaks_of() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.created(create("a"));
    rig.put("a", "1");
    client.progress();
    assert_eq!(shown(&client.all()), ["0@2: a=1(2)", "-1@2:"]);
}

#[test]
fn periodic_progress_goes_to_those_who_asked_and_skips_a_turn_after_events() {
    let mut rig = Rig::new(Options {
        progress_interval_ms: 1000,
        ..options()
    });
    rig.hub.tick(50_000);
    let mut client = rig.client();
    client.created(create("a"));
    client.created(WatchCreateRequest {
        progress_notify: true,
        ..create("a")
    });
    client.created(WatchCreateRequest {
        progress_notify: true,
        ..create("b")
    });
    client.created(WatchCreateRequest {
        progress_notify: true,
        ..from(9, create("c"))
    });
    rig.put("a", "1");
    client.all();
    rig.hub.tick(50_900);
    assert_eq!(client.all(), []);
    rig.hub.tick(51_100);
    assert_eq!(client.all(), [progress(2, 2)]);
    rig.hub.tick(52_200);
    assert_eq!(client.all(), [progress(2, 1), progress(2, 2)]);
}

#[test]
fn a_large_revision_comes_in_fragments_only_to_those_who_asked_for_them() {
    let mut rig = Rig::new(Options {
        fragment_bytes: 1000,
        ..options()
    });
    let mut client = rig.client();
    client.created(WatchCreateRequest {
        fragment: true,
        ..create_range("a", "z")
    });
    client.created(create_range("a", "z"));
    let value = "v".repeat(300);
    rig.txn(
        ('a'..='g')
            .map(|key| put_op(&key.to_string(), &value))
            .collect(),
    );
    let all = client.all();
    let shape: Vec<(i64, usize, bool)> = all
        .iter()
        .map(|response| (response.watch_id, response.events.len(), response.fragment))
        .collect();
    let whole: Vec<_> = shape.iter().filter(|(id, ..)| *id == 1).collect();
    assert_eq!(whole, [&(1, 7, false)]);
    let fragments: Vec<_> = shape
        .iter()
        .filter(|(id, ..)| *id == 0)
        .map(|(_, n, more)| (*n, *more))
        .collect();
    assert_eq!(fragments, [(3, true), (3, true), (1, false)]);
}

#[test]
fn a_slow_stream_falls_behind_alone_and_later_gets_everything_in_order() {
    for ring_bytes in [0, 1 << 20] {
        let mut rig = Rig::new(Options {
            stream_bytes: 4096,
            ring_bytes,
            ..options()
        });
        let (mut slow, mut fast) = (rig.client(), rig.client());
        slow.created(create("a"));
        fast.created(create("a"));
        let value = "v".repeat(500);
        let mut got = 0;
        for number in 0..200 {
            rig.put("a", &format!("{number}{value}"));
            got += fast
                .all()
                .iter()
                .map(|response| response.events.len())
                .sum::<usize>();
        }
        assert_eq!(got, 200, "the other stream is not held up");
        let stats = rig.hub.stats();
        assert_eq!((stats.slow_watchers, stats.watchers), (1, 2));
        assert!(stats.queued_bytes < 4096);

        let mut revisions = Vec::new();
        loop {
            rig.catch_up();
            let Some(response) = slow.next() else { break };
            revisions.extend(
                response
                    .events
                    .iter()
                    .filter_map(|event| event.kv.as_ref())
                    .map(|kv| kv.mod_revision),
            );
        }
        assert_eq!(revisions, (2..=201).collect::<Vec<_>>());
        assert_eq!(rig.hub.stats().slow_watchers, 0);
    }
}

#[test]
fn a_revision_larger_than_the_queue_gets_its_turn_on_a_stream_that_is_never_idle() {
    let mut rig = Rig::new(Options {
        stream_bytes: 1024,
        ..options()
    });
    let mut client = rig.client();
    client.created(create("large"));
    client.created(create("small"));
    rig.put("small", "0");
    rig.put("large", &"v".repeat(5000));
    let mut taken = Vec::new();
    for number in 1..20 {
        // The queue always holds something when catching up has its turn.
        rig.put("small", &number.to_string());
        taken.extend(client.next().map(|response| response.watch_id));
        rig.catch_up();
    }
    assert!(taken.contains(&0), "{taken:?}");
}

#[test]
fn a_revision_larger_than_the_queue_and_the_ring_arrives_whole() {
    let mut rig = Rig::new(Options {
        stream_bytes: 1024,
        ring_bytes: 1024,
        ..options()
    });
    let mut client = rig.client();
    client.created(create_range("a", "z"));
    rig.put("b", &"x".repeat(900));
    rig.txn(
        (0..50)
            .map(|key| put_op(&format!("k{key:02}"), &"y".repeat(500)))
            .collect(),
    );
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.extend(client.next().map(|response| response.events.len()));
        rig.catch_up();
    }
    assert_eq!(sizes, [1, 50]);
}

#[test]
fn the_budget_of_all_queues_holds_but_never_stops_a_stream() {
    let mut rig = Rig::new(Options {
        queued_bytes: 10_000,
        ..options()
    });
    let mut clients: Vec<Client> = (0..20).map(|_| rig.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.created(create(&number.to_string()));
    }
    let value = "v".repeat(1000);
    for _ in 0..5 {
        for number in 0..20 {
            rig.put(&number.to_string(), &value);
        }
    }
    // Ten messages fill the budget, and each stream may have one whatever the budget says.
    let queued = rig.hub.stats().queued_bytes;
    assert!((10_000..=32_000).contains(&queued), "{queued}");
    for client in &mut clients {
        let mut got = 0;
        loop {
            let Some(response) = client.next() else { break };
            got += response.events.len();
            rig.catch_up();
        }
        assert_eq!(got, 5);
    }
    assert_eq!(rig.hub.stats().queued_bytes, 0);
}

#[test]
fn thousands_of_watches_on_one_slow_stream_all_get_their_events() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    for number in 0..3000 {
        client.created(create(&format!("k{number}")));
    }
    for round in 0..2 {
        for batch in (0..3000).collect::<Vec<_>>().chunks(500) {
            let puts = batch
                .iter()
                .map(|number| Request::Put(put(&format!("k{number}"), &round.to_string())));
            rig.apply(puts.collect());
        }
    }
    let mut got = vec![0; 3000];
    loop {
        let Some(response) = client.next() else { break };
        got[response.watch_id as usize] += response.events.len();
        rig.catch_up();
    }
    assert_eq!(got, vec![2; 3000]);
}

#[test]
fn a_watch_that_starts_far_back_does_not_hold_up_one_that_is_nearly_there() {
    let mut rig = Rig::new(Options {
        ring_bytes: 0,
        batch_revisions: 100,
        ..options()
    });
    for batch in 0..10 {
        rig.apply(
            (0..500)
                .map(|number| Request::Put(put("a", &format!("{batch} {number}"))))
                .collect(),
        );
    }
    let mut client = rig.client();
    client.created(from(4990, create("none")));
    client.created(from(2, create("a")));
    client.created(from(4000, create("a")));
    let mut events_before_the_third = 0;
    'found: for _ in 0..100 {
        assert!(rig.hub.catch_up().expect("memory does not fail"));
        while let Some(response) = client.next() {
            match response.watch_id {
                2 => break 'found,
                _ => events_before_the_third += response.events.len(),
            }
        }
    }
    // Those that lie before it, and what else is in the batch that has its own, which may be four times as large.
    assert!(events_before_the_third <= 4400, "{events_before_the_third}");
    let mut last = 0;
    loop {
        rig.catch_up();
        let Some(response) = client.next() else { break };
        if response.watch_id == 1 {
            last = response
                .events
                .last()
                .and_then(|event| event.kv.as_ref())
                .map_or(0, |kv| kv.mod_revision);
        }
    }
    assert_eq!((last, rig.hub.stats().slow_watchers), (5001, 0));
}

#[test]
fn after_a_snapshot_current_watches_catch_up_from_it_or_are_canceled_as_compacted() {
    for compact in [None, Some(5)] {
        let mut ahead = Rig::new(options());
        let mut rig = Rig::new(options());
        for value in ["1", "2"] {
            ahead.put("a", value);
            rig.put("a", value);
        }
        let (mut client, mut future) = (rig.client(), rig.client());
        client.created(create("a"));
        future.created(from(9, create("a")));
        for value in ["3", "4", "5", "6"] {
            ahead.put("a", value);
        }
        if let Some(revision) = compact {
            ahead.compact(revision);
        }
        rig.store
            .replace(ahead.store.engine().clone())
            .expect("a good state");
        rig.hub.reset();
        rig.catch_up();
        match compact {
            None => assert_eq!(shown(&client.all()), ["0@7: a=3(4) a=4(5) a=5(6) a=6(7)"]),
            Some(revision) => {
                let canceled = client.all();
                assert_eq!(
                    (canceled.len(), canceled[0].compact_revision),
                    (1, revision)
                );
            }
        }
        assert_eq!(future.all(), []);
        let applied = ahead.apply_unpublished(vec![
            Request::Put(put("a", "7")),
            Request::Put(put("a", "8")),
        ]);
        rig.hub
            .publish(&applied.events, applied.revision, applied.compacted);
        assert_eq!(shown(&future.all()), ["0@9: a=8(9)"]);
    }
}

#[test]
fn events_that_were_published_are_not_sent_again_though_the_log_is_read_later() {
    let mut rig = Rig::new(Options {
        ring_bytes: 0,
        ..options()
    });
    rig.put("a", "1");
    let mut client = rig.client();
    client.created(from(2, create("a")));
    let applied = rig.apply_unpublished(vec![Request::Put(put("a", "2"))]);
    rig.catch_up();
    assert_eq!(
        shown(&client.all()),
        ["0@2: a=1(2)"],
        "what is not published is not sent"
    );
    rig.hub
        .publish(&applied.events, applied.revision, applied.compacted);
    rig.catch_up();
    assert_eq!(shown(&client.all()), ["0@3: a=2(3)"]);
}

#[test]
fn a_watch_created_after_a_put_was_answered_begins_after_it_though_the_put_is_published_later() {
    let mut rig = Rig::new(options());
    let applied = rig.apply_unpublished(vec![Request::Put(put("a", "1"))]);
    let mut client = rig.client();
    assert_eq!(client.created(create("a")).header, header(2));
    assert_eq!(client.created(from(2, create("a"))).header, header(2));
    client.progress();
    assert_eq!(
        client.next(),
        None,
        "that put has not been sent to the second watch"
    );
    rig.hub
        .publish(&applied.events, applied.revision, applied.compacted);
    client.progress();
    assert_eq!(shown(&client.all()), ["1@2: a=1(2)", "-1@2:"]);
}

#[test]
fn closing_the_hub_ends_streams_after_what_is_queued() {
    let mut rig = Rig::new(options());
    let mut client = rig.client();
    client.created(create("a"));
    rig.put("a", "1");
    rig.hub.close();
    assert!(client.next().is_some());
    assert!(client.is_ended());
    assert!(rig.client().is_ended());
}

#[test]
fn a_dropped_stream_leaves_nothing_behind() {
    let mut rig = Rig::new(options());
    rig.put("a", "1");
    let mut client = rig.client();
    for number in 0..600 {
        client.create(from(number % 3, create_range("a", "z")));
    }
    rig.put("a", "2");
    drop(client);
    assert_eq!(rig.hub.stats(), Stats::default());
    rig.put("a", "3");
    rig.catch_up();
    assert_eq!(rig.hub.stats(), Stats::default());
}

#[test]
fn the_catch_up_thread_runs_when_it_is_needed_and_ends_when_the_hub_is_closed() {
    let mut rig = Rig::new(options());
    rig.put("a", "1");
    let hub = rig.hub.clone();
    let thread = std::thread::spawn(move || keelson_watch::run_catch_up(&*hub));
    let (woken, wakes) = std::sync::mpsc::sync_channel(16);
    struct Tell(std::sync::mpsc::SyncSender<()>);
    impl std::task::Wake for Tell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.send(()).expect("the test waits");
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Tell(woken)));
    let mut client = rig.client();
    client.created(from(1, create("a")));
    let message = loop {
        match client
            .stream
            .poll_next(&mut std::task::Context::from_waker(&waker))
        {
            std::task::Poll::Ready(message) => break message,
            std::task::Poll::Pending => wakes.recv().expect("the hub wakes the stream"),
        }
    };
    assert!(message.is_some());
    rig.hub.close();
    thread
        .join()
        .expect("no panic")
        .expect("memory does not fail");
}
