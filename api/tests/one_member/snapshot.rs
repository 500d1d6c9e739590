//! Snapshots whose clients do not wait for their end.

use std::time::{Duration, Instant};

use crate::frames::{CANCEL, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM};
use crate::frames::{call, frame};
use crate::member::{Running, put};

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_at_any_moment_leaves_no_files_behind() {
    let running = Running::start().await;
    running.kv().await.put(put("a", "1")).await.unwrap();
    let mut connection = Connection::open(&running).await;
    let block = call(SNAPSHOT, "x", "y");
    for (stream, wait_us) in (1..).step_by(2).zip((0..4000).step_by(50)) {
        let asked = [
            frame(HEADERS, END_HEADERS, stream, &block),
            frame(DATA, END_STREAM, stream, &[0; 5]),
        ];
        connection.send(&asked.concat()).await;
        // No condition to wait for: the moments from the call to its end are what is tried.
        tokio::time::sleep(Duration::from_micros(wait_us)).await;
        connection
            .send(&frame(RST_STREAM, 0, stream, &CANCEL))
            .await;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let left = || std::fs::read_dir(running.scratch.path()).unwrap().count();
    // What is under way is let go when it is done; what is left behind, never.
    while left() > 0 {
        assert!(Instant::now() < deadline, "{} are left", left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
