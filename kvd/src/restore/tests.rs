use keelson_api::snapshot::{HEAD_NAME, Head};
use keelson_proto::commandpb::{Command, command};
use keelson_proto::etcdserverpb::PutRequest;
use keelson_store::engine::Engine;
use keelson_store::{Entry, Options, Payload, Store};
use prost::Message;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::flags::{Request, parse};

const TWO: &str = "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2";
const URLS: [(&str, &str); 2] = [("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:2")];

/// A backup of a store in which so many keys were put, each once.
fn backup(home: &Path, keys: u64, head_keys: u64) -> PathBuf {
    let engine = RocksEngine::open(home.join("engine"), keelson_rocks::Options::default()).unwrap();
    let engine = Arc::new(engine);
    let mut store = Store::open(engine.clone(), Options::default()).unwrap();
    for index in 1..=keys {
        let put = PutRequest {
            key: format!("key {index}").into(),
            value: "value".into(),
            ..PutRequest::default()
        };
        let command = Command {
            request: Some(command::Request::Put(put)),
            ..Command::default()
        };
        let entry = Entry {
            id: keelson_store::LogId { term: 3, index },
            payload: Payload::Command(command.encode_to_vec().into()),
        };
        store.apply(&[entry]).unwrap();
    }
    let checkpoint = home.join("checkpoint");
    engine.checkpoint(&checkpoint).unwrap();

    let head = Head {
        revision: Revision(1 + keys as i64),
        keys: head_keys,
    };
    let head = head.to_string();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(head.len() as u64);
    tar.append_data(&mut header, HEAD_NAME, head.as_bytes())
        .unwrap();
    tar.append_dir_all("", &checkpoint).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    let path = home.join("backup.db");
    fs::write(&path, bytes).unwrap();
    path
}

/// A place with a backup of three keys.
fn home() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = backup(home.path(), 3, 3);
    (home, file)
}

fn config(flags: &[String]) -> Config {
    match parse(flags.to_vec(), []).unwrap().0 {
        Request::Run(settings) => Config::from_settings(&settings, false).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The configuration of the first or second member, with its data in `home`.
fn member(home: &Path, which: usize, more: &[String]) -> Config {
    let (name, url) = URLS[which];
    let mut flags = vec![
        TWO.to_owned(),
        format!("--name={name}"),
        format!("--data-dir={}", home.join(name).display()),
        format!("--initial-advertise-peer-urls={url}"),
    ];
    flags.extend_from_slice(more);
    config(&flags)
}

fn names(path: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
    names.sort();
    names
}

fn problem(result: Result<Restored>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn members_restored_from_one_backup_agree_on_all_but_who_they_are() {
    let (home, file) = home();
    let mut seen = Vec::new();
    for which in [0, 1] {
        let config = member(home.path(), which, &[]);
        let restored = restore(&file, Check::Sha256, &config).unwrap();
        assert_eq!((restored.revision, restored.keys), (Revision(4), 3));
        let found = data_dir::inspect(&config.data_dir).unwrap().unwrap();
        assert_eq!(found, restored.identity);

        let dir = DataDir::lock(&config.data_dir).unwrap();
        let (log, opened) = RaftLog::open(
            DiskDir::open(dir.log()).unwrap(),
            keelson_log::Options::default(),
        )
        .unwrap();
        assert!(!opened.fresh);
        assert_eq!((opened.vote, opened.last), (None, opened.purged));
        assert_eq!(log.first_index(), 1);
        let state = StateDir::open(dir.state()).unwrap().current().unwrap();
        let engine = RocksEngine::open(state, keelson_rocks::Options::default()).unwrap();
        let store = Store::open(Arc::new(engine), Options::default()).unwrap();
        let state = store.reader().now().state().clone();
        assert_eq!(state.cluster_id, found.cluster_id);
        let (applied, membership) = store.applied();
        assert_eq!(applied.map(|id| id.index), opened.purged.map(|id| id.index));
        let nodes = membership.membership.unwrap().nodes;
        assert!(nodes.iter().any(|node| node.id == found.member_id.0));
        seen.push((found, state));
    }
    let [(a, a_state), (b, b_state)] = &seen[..] else {
        panic!("two were restored")
    };
    assert_eq!(a.cluster_id, b.cluster_id);
    assert_ne!(a.member_id, b.member_id);
    assert_eq!(a_state, b_state);
}

#[test]
fn members_of_different_backups_tokens_or_of_none_are_of_different_clusters() {
    let home = tempfile::tempdir().unwrap();
    let of = |sha256: [u8; 32], flags: &[String]| {
        let bootstrap = member(home.path(), 0, flags).bootstrap;
        let founders = founders(&bootstrap, sha256);
        (founders.cluster_id(), founders.founder_id())
    };
    let token = ["--initial-cluster-token=other".to_owned()];
    let unrestored = member(home.path(), 0, &[]).bootstrap;
    let ids = [
        of([1; 32], &[]),
        of([2; 32], &[]),
        of([1; 32], &token),
        (unrestored.cluster_id(), unrestored.founder_id()),
    ];
    for (at, one) in ids.iter().enumerate() {
        for other in &ids[at + 1..] {
            assert!(one.0 != other.0 && one.1 != other.1, "{ids:x?}");
        }
    }
    assert_eq!(of([1; 32], &[]), ids[0]);
}

#[test]
fn a_directory_that_holds_anything_is_left_alone_and_an_empty_one_is_filled() {
    let (home, file) = home();
    let config = member(home.path(), 0, &[]);
    fs::create_dir(&config.data_dir).unwrap();
    fs::write(config.data_dir.join("thesis.tex"), "x").unwrap();
    let text = problem(restore(&file, Check::Sha256, &config));
    assert!(text.contains("is not empty"), "{text}");
    assert_eq!(names(&config.data_dir), ["thesis.tex"]);
    fs::remove_file(config.data_dir.join("thesis.tex")).unwrap();
    restore(&file, Check::Sha256, &config).unwrap();
    assert_eq!(
        names(&config.data_dir),
        ["IDENTITY", "LOCK", "log", "state"]
    );
}

#[test]
fn a_backup_that_cannot_be_restored_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = backup(home.path(), 3, 4);
    let before = names(home.path());
    let wal = format!("--wal-dir={}", home.path().join("wal").display());
    let config = member(home.path(), 0, &[wal]);
    let text = problem(restore(&file, Check::Sha256, &config));
    assert!(
        text.contains("revision 4 with 4 keys, and it holds revision 4 with 3"),
        "{text}"
    );
    assert_eq!(names(home.path()), before);
}

#[test]
fn what_an_interrupted_restore_left_gives_way_to_the_next_one() {
    let (home, file) = home();
    let config = member(home.path(), 0, &[]);
    let site = Site::choose(&config.data_dir).unwrap();
    let (dir, unfinished) = site.begin().unwrap();
    fs::create_dir_all(dir.state()).unwrap();
    fs::write(dir.state().join("half"), "x").unwrap();
    // While it goes on, nobody else may.
    let text = problem(restore(&file, Check::Sha256, &config));
    assert!(text.contains("a.restoring is in use"), "{text}");
    // As if it had been killed.
    unfinished.keep();
    drop(dir);
    assert_eq!(data_dir::inspect(&config.data_dir).unwrap(), None);
    restore(&file, Check::Sha256, &config).unwrap();
    assert!(data_dir::inspect(&config.data_dir).unwrap().is_some());
    assert!(!site.unfinished.exists());
}

#[test]
fn the_raft_log_goes_where_the_member_will_look_for_it() {
    let (home, file) = home();
    let segments = |path: &Path| {
        names(path)
            .iter()
            .filter(|name| name.ends_with(".seg"))
            .count()
    };
    let elsewhere = home.path().join("wal");
    let inside = home.path().join("b/wal");
    for (which, wal) in [(0, &elsewhere), (1, &inside)] {
        let config = member(
            home.path(),
            which,
            &[format!("--wal-dir={}", wal.display())],
        );
        restore(&file, Check::Sha256, &config).unwrap();
        assert_eq!(segments(wal), 1);
        assert!(!config.data_dir.join("log").exists());
    }
    let config = Config {
        data_dir: home.path().join("c"),
        ..member(
            home.path(),
            0,
            &[format!("--wal-dir={}", elsewhere.display())],
        )
    };
    let text = problem(restore(&file, Check::Sha256, &config));
    assert!(text.contains("choose another --wal-dir"), "{text}");
}
