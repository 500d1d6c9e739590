//! Which process owns the other end of a connection on loopback, as Linux tells it in `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Which of `processes` (by place) has the socket that is bound to `port` of loopback and connected to `to`.
/// None if it is none of them, or has ended meanwhile.
pub(super) fn owner(port: u16, to: u16, processes: &BTreeMap<usize, u32>) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, port, to)?);
    let found = processes
        .iter()
        .find(|(_, process)| has_open(**process, &socket));
    found.map(|(place, _)| *place)
}

/// The inode of the socket with these ports in the kernel's table of connections.
fn inode(table: &str, port: u16, to: u16) -> Option<u64> {
    let ends_in = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        if !ends_in(local, port) || !ends_in(remote, to) {
            return None;
        }
        // State, queues, timer, retransmissions, user and timeout lie between.
        fields.nth(6)?.parse().ok().filter(|inode| *inode != 0)
    })
}

fn has_open(process: u32, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| link.to_str() == Some(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_that_dialled_is_found_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = listener.local_addr().expect("it is bound").port();
        let dialled = TcpStream::connect(("127.0.0.1", to)).expect("it listens");
        let port = dialled.local_addr().expect("it is bound").port();
        let ours = std::process::id();
        // Process 1 is not ours, so that it cannot have the socket.
        let processes = BTreeMap::from([(3, 1), (5, ours)]);
        assert_eq!(owner(port, to, &processes), Some(5));
        assert_eq!(owner(port, to, &BTreeMap::from([(3, 1)])), None);
    }

    #[test]
    fn a_connection_that_is_gone_belongs_to_nobody() {
        let processes = BTreeMap::from([(5, std::process::id())]);
        assert_eq!(owner(1, 1, &processes), None);
    }
}
