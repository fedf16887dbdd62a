//! Listeners of one Gateway that stand in each other's way. All of those in a conflict are set aside: the
//! specification forbids to pick a winner.

use std::collections::BTreeMap;

use crate::listener::ListenerState;
use crate::report::Refusal;

/// Marks listeners that share a port with other ones of another protocol, or of the same host name.
pub(crate) fn mark(listeners: &mut [ListenerState]) {
    let mut ports: BTreeMap<u16, BTreeMap<&'static str, Vec<usize>>> = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        if let (Some(port), Some(family)) = (listener.port, family(&listener.protocol)) {
            ports.entry(port).or_default().entry(family).or_default().push(index);
        }
    }
    for (port, families) in ports {
        for (family, members) in &families {
            let other = families.iter().find(|(other, _)| *other != family);
            if let Some((other, others)) = other {
                let name = listeners[others[0]].key.section.clone();
                for index in members {
                    let field = format!("{}.protocol", listeners[*index].origin.field);
                    let message = format!(
                        "listener {name} has port {port} for {other} as well; one port cannot have both, change one"
                    );
                    listeners[*index].conflict = Some(Refusal::new(field, "ProtocolConflict", message));
                }
            } else {
                mark_hostnames(listeners, members, port);
            }
        }
    }
}

fn mark_hostnames(listeners: &mut [ListenerState], members: &[usize], port: u16) {
    let mut hosts: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for index in members {
        if let Some(hostname) = &listeners[*index].hostname {
            hosts.entry(hostname.clone()).or_default().push(*index);
        }
    }
    for (hostname, same) in hosts.into_iter().filter(|(_, same)| same.len() > 1) {
        for index in &same {
            let other = if *index == same[0] { same[1] } else { same[0] };
            let name = &listeners[other].key.section;
            let message = format!("listener {name} has port {port} and host {hostname} as well; change one");
            let field = format!("{}.hostname", listeners[*index].origin.field);
            listeners[*index].conflict = Some(Refusal::new(field, "HostnameConflict", message));
        }
    }
}

/// Protocols that can share a port, as they are told apart by SNI or Host. `None`: never in conflict.
fn family(protocol: &str) -> Option<&'static str> {
    match protocol {
        "HTTP" => Some("HTTP"),
        "HTTPS" | "TLS" => Some("TLS"),
        "TCP" => Some("TCP"),
        _ => None,
    }
}
