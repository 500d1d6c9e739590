//! One cluster test at a time, on the whole machine: elections and timeouts mean nothing while another test's
//! three servers have the processors.

use std::fs::File;

/// The right to start servers. Every cluster asks for it, so that no test can forget to take it.
#[derive(Debug)]
pub struct Turn {
    // Locked until it is closed, which the kernel also does when the process dies.
    _lock: File,
}

impl Turn {
    /// Waits until no other test, in this process or another, has the turn.
    pub async fn take() -> Turn {
        let locked = tokio::task::spawn_blocking(|| {
            let uid = rustix::process::getuid().as_raw();
            let path = std::env::temp_dir().join(format!("keelson-tests-{uid}.lock"));
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path);
            let file = file.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
            file.lock()
                .unwrap_or_else(|e| panic!("cannot lock {}: {e}", path.display()));
            file
        });
        Turn {
            _lock: locked.await.expect("taking the lock does not panic"),
        }
    }
}
