//! Where the programs are that the tests run: ours beside the test executable, others' in `target/peers`.

use std::path::{Path, PathBuf};

/// A server that speaks etcd's API and takes etcd's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Ours.
    Kvd,
    /// The reference: etcd 3.5.1.
    Etcd35,
    /// Debian's etcd, 3.4.
    Etcd34,
}

impl Server {
    /// The server under test: `kvd`, unless `KEELSON_SUT` names another one.
    pub fn under_test() -> Server {
        match std::env::var("KEELSON_SUT").as_deref() {
            Err(_) | Ok("" | "kvd") => Server::Kvd,
            Ok("etcd" | "etcd-3.5") => Server::Etcd35,
            Ok("etcd-3.4") => Server::Etcd34,
            Ok(other) => panic!("KEELSON_SUT is {other:?}: expected kvd, etcd-3.5 or etcd-3.4"),
        }
    }

    /// The program, which is known to exist.
    pub fn program(self) -> PathBuf {
        match self {
            Server::Kvd => program("kvd"),
            Server::Etcd35 => peer("etcd-3.5.1/etcd"),
            Server::Etcd34 => peer("etcd-3.4/etcd"),
        }
    }
}

/// One of our own programs, of the profile that the running test was built in; `KEELSON_BIN_DIR` overrides.
pub fn program(name: &str) -> PathBuf {
    let dir = match std::env::var_os("KEELSON_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => profile_dir(),
    };
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `make build` (or `cargo build -p keelson-{name}`)",
        path.display()
    );
    path
}

/// A file that `make peers` brings; `KEELSON_PEERS_DIR` overrides where it is looked for.
pub fn peer(relative: &str) -> PathBuf {
    let path = peer_path(relative);
    assert!(
        path.exists(),
        "{} is missing: run `make peers`",
        path.display()
    );
    path
}

/// Where such a file is, if it is there.
pub fn peer_path(relative: &str) -> PathBuf {
    let dir = match std::env::var_os("KEELSON_PEERS_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace().join("target/peers"),
    };
    dir.join(relative)
}

/// Cargo's `target` folder, for what a test leaves behind.
pub fn target() -> PathBuf {
    let profile = profile_dir();
    profile.parent().unwrap_or(&profile).to_path_buf()
}

/// `target/<profile>`: cargo puts test executables into `target/<profile>/deps`.
fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent);
    profile
        .expect("cargo runs tests from target/<profile>/deps")
        .to_path_buf()
}

/// The checkout's root: where `Cargo.lock` is, at or above the current directory, which for tests is their package's.
/// What it was when this was built says nothing: cargo takes what was built in one clone for fresh in the next.
pub fn workspace() -> PathBuf {
    let here = std::env::current_dir().expect("there is a current directory");
    let root = here
        .ancestors()
        .find(|dir| dir.join("Cargo.lock").is_file());
    root.unwrap_or(&here).to_path_buf()
}
