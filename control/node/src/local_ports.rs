//! Ports that the node's own processes choose from, held against those that others leave by with the node's address.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// The ports of a range that the node's own processes may choose by themselves, in the network namespace of this thread;
/// none if they are apart. A connection of the node's own from one of them could lose its answers to a pod's.
///
/// # Errors
/// The range cannot be read, or is none.
pub fn shared_local_ports(
    ports: &RangeInclusive<u16>,
    procfs: &Path,
) -> io::Result<Option<RangeInclusive<u16>>> {
    let read = |switch: &str| fs::read_to_string(procfs.join("sys/net/ipv4").join(switch));
    let own = read("ip_local_port_range")?;
    // Since Linux 2.6.35.
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    shared(ports, &own, &reserved)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is no range", own.trim())))
}

/// From what the kernel writes; the outer None: it is not understood.
fn shared(ports: &RangeInclusive<u16>, own: &str, reserved: &str) -> Option<Option<RangeInclusive<u16>>> {
    let mut ends = own.split_whitespace().map(|end| end.parse::<u16>().ok());
    let (low, high) = (ends.next()??, ends.next()??);
    let reserved: Vec<(u16, u16)> = reserved.trim().split(',').filter_map(range).collect();
    let is_reserved = |port: u16| reserved.iter().any(|(first, last)| (*first..=*last).contains(&port));
    let mut both = (low.max(*ports.start())..=high.min(*ports.end())).filter(|port| !is_reserved(*port));
    let first = both.next();
    Some(first.map(|first| first..=both.next_back().unwrap_or(first)))
}

/// `7` or `7-9`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn ports_that_both_may_choose_are_told() {
        let of = |own, reserved| shared(&(1024..=29999), own, reserved);
        assert_eq!(of("32768\t60999\n", "\n"), Some(None));
        assert_eq!(of("1024\t65535\n", "\n"), Some(Some(1024..=29999)));
        assert_eq!(of("20000 60999", "8080,20000-29998"), Some(Some(29999..=29999)));
        assert_eq!(of("20000 60999", "1024-29999"), Some(None), "kept for whoever asks for them by number");
        assert_eq!(of("", ""), None);
    }
}
