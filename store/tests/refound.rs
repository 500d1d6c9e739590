//! A state that another cluster is founded with.

mod common;

use common::*;
use keelson_proto::commandpb::{
    ClusterInit, LogId as PbLogId, MemberAttributes, Membership, Node, Voters,
};
use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType};
use keelson_store::memory::MemoryEngine;
use keelson_store::*;
use std::sync::Arc;

const NEW_CLUSTER: u64 = 99;

fn members(ids: &[u64]) -> Membership {
    let node = |id: &u64| Node {
        id: *id,
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        pending_voter: false,
    };
    Membership {
        configs: vec![Voters { ids: ids.to_vec() }],
        nodes: ids.iter().map(node).collect(),
    }
}

/// A store with a past: keys, history, a lease, an alarm, members that came and went.
fn used() -> Fixture {
    let mut f = fixture();
    let founded = f.payload(Payload::Membership(members(&[1, 2])));
    f.store.apply(&[founded]).unwrap();
    f.apply([
        Request::ClusterInit(ClusterInit { cluster_id: 5 }),
        Request::MemberAttributes(MemberAttributes {
            id: 2,
            name: "two".into(),
            client_urls: vec![],
        }),
        put("a", "1"),
        put("a", "2"),
        put("b", "1"),
        compact(3),
        delete("b", ""),
        grant(8, 60),
        Request::Alarm(AlarmRequest {
            action: 1,
            member_id: 2,
            alarm: AlarmType::Nospace.into(),
        }),
    ]);
    let shrunk = f.payload(Payload::Membership(members(&[2])));
    f.store.apply(&[shrunk]).unwrap();
    f
}

#[test]
fn the_new_cluster_has_the_data_and_none_of_the_old_members() {
    let mut f = used();
    let before = f.now();
    assert_eq!(before.removed_members().unwrap(), [MemberId(1)]);
    assert_eq!(before.attributes().unwrap().len(), 1);

    let state = refound(&*f.engine, NEW_CLUSTER, members(&[3, 4, 5])).unwrap();
    assert_eq!(state.applied, Some(PbLogId { term: 0, index: 0 }));
    // What was refounded is on the disk.
    f.crash();
    let after = f.now();
    assert_eq!(after.state(), &state);
    assert_eq!(after.state().cluster_id, NEW_CLUSTER);
    let (applied, stored) = f.store.applied();
    assert_eq!(applied, Some(LogId { term: 0, index: 0 }));
    assert_eq!(stored.log_id, Some(PbLogId { term: 0, index: 0 }));
    assert_eq!(stored.membership, Some(members(&[3, 4, 5])));
    assert_eq!(after.removed_members().unwrap(), []);
    assert_eq!(after.attributes().unwrap(), []);

    assert_eq!(
        (after.revision, after.compacted),
        (before.revision, before.compacted)
    );
    let hash = |view: &Published<_>| view.hash_kv(None).unwrap();
    assert_eq!(hash(&after), hash(&before));
    let past = |view: &Published<_>| view.events_from(Revision(3), usize::MAX, 100).unwrap();
    assert_eq!(past(&after), past(&before));
    assert_eq!(after.leases().unwrap(), [(LeaseId(8), 60)]);
    assert_eq!(after.alarms().unwrap(), before.alarms().unwrap());
}

#[test]
fn the_new_clusters_first_entry_follows_its_founding() {
    let mut f = used();
    let revision = f.revision();
    refound(&*f.engine, NEW_CLUSTER, members(&[3])).unwrap();
    f.crash();
    f.index = 0;
    f.apply([Request::Alarm(AlarmRequest {
        action: 2,
        member_id: 2,
        alarm: AlarmType::Nospace.into(),
    })]);
    f.run(put("c", "1")).unwrap();
    assert_eq!(f.revision(), revision + 1);
    // An old member's id means nothing to the new cluster, not even that it was removed.
    let grown = f.payload(Payload::Membership(members(&[1, 3])));
    f.store.apply(&[grown]).unwrap();
    assert_eq!(f.now().removed_members().unwrap(), []);
}

#[test]
fn nothing_is_founded_with_what_holds_no_state() {
    let engine = Arc::new(MemoryEngine::new());
    let error = refound(&*engine, NEW_CLUSTER, members(&[3])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store's state is damaged: there is none"
    );
    let store = Store::open(engine, Options::default()).unwrap();
    assert_eq!(store.applied().0, None);
}
