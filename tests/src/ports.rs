//! Free ports on loopback.
//!
//! They are taken below the range that the kernel gives to outgoing connections, so that a killed member finds
//! its port still free when it is started again.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

const LOWEST: u16 = 12_000;
const HIGHEST: u16 = 32_000;

/// `N` different ports on which nothing listens now.
pub fn free<const N: usize>() -> [u16; N] {
    // Held until all are found, so that none is found twice.
    let mut held = Vec::with_capacity(N);
    let mut random = rand::rng();
    for _ in 0..1_000 {
        if held.len() == N {
            break;
        }
        let port = random.random_range(LOWEST..HIGHEST);
        held.extend(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .ok()
                .map(|listener| (port, listener)),
        );
    }
    let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
    ports
        .try_into()
        .expect("a machine that runs tests has free ports")
}
