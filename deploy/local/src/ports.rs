//! Loopback addresses and ports that are free at this moment.
//!
//! The ports come from below the range that the kernel gives to outgoing connections (32768 and up on Linux): a port that
//! was found free is then not taken by some client's connection before the server that it is meant for has bound it.
//! Two stacks on one machine start their search at different places, by their process ids.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_240;
const LAST: u32 = 32_767;
const COUNT: u32 = LAST - FIRST + 1;

/// How far this process has got; two callers in one process never get the same candidate.
static CURSOR: AtomicU32 = AtomicU32::new(0);

/// `count` different ports that nobody listens on at `address`, and that this process has not handed out lately.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when the whole range is taken, or why `address` itself cannot be bound.
pub fn free(address: IpAddr, count: usize) -> io::Result<Vec<u16>> {
    let mut ports = Vec::with_capacity(count);
    for _ in 0..COUNT {
        if ports.len() == count {
            return Ok(ports);
        }
        let port = next_candidate();
        if is_free(SocketAddr::new(address, port))? {
            ports.push(port);
        }
    }
    if ports.len() == count { Ok(ports) } else { Err(io::ErrorKind::AddrInUse.into()) }
}

/// A `127.a.b.0` network whose hosts 1 to `hosts` have every one of `ports` free: each caller of the mesh has an address
/// of its own there, as a pod has, and the same port as on any other machine.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when there is none, or why a loopback address cannot be bound.
pub fn free_network(hosts: u8, ports: &[u16]) -> io::Result<Ipv4Addr> {
    for _ in 0..COUNT {
        let [a, b] = next_candidate().to_be_bytes();
        if network_is_free(a, b, hosts, ports)? {
            return Ok(Ipv4Addr::new(127, a, b, 0));
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn network_is_free(a: u8, b: u8, hosts: u8, ports: &[u16]) -> io::Result<bool> {
    for host in 1..=hosts {
        for port in ports {
            if !is_free(SocketAddr::from((Ipv4Addr::new(127, a, b, host), *port)))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn next_candidate() -> u16 {
    let start = std::process::id().wrapping_mul(97);
    let offset = start.wrapping_add(CURSOR.fetch_add(1, Ordering::Relaxed)) % COUNT;
    u16::try_from(FIRST + offset).expect("the range ends below 65536")
}

fn is_free(address: SocketAddr) -> io::Result<bool> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_differ_and_can_be_bound() {
        let mut ports = free(LOOPBACK, 20).expect("ports");
        for port in &ports {
            TcpListener::bind((LOOPBACK, *port)).expect("bind");
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken = TcpListener::bind((LOOPBACK, free(LOOPBACK, 1).expect("port")[0])).expect("bind");
        assert!(!is_free(taken.local_addr().expect("address")).expect("check"));
    }

    #[test]
    fn a_network_with_a_taken_port_is_passed_over() {
        let network = free_network(3, &[8080]).expect("network");
        let [_, a, b, _] = network.octets();
        let _taken = TcpListener::bind((Ipv4Addr::new(127, a, b, 3), 8080)).expect("bind");
        assert!(!network_is_free(a, b, 3, &[8080]).expect("check"));
        assert!(network_is_free(a, b, 2, &[8080]).expect("check"));
    }
}
