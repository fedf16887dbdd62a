//! Whether the node passes packets on that are not its own: nothing reaches a pod without.

use std::fs;
use std::io;
use std::path::Path;

/// A family whose packets are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// `net.ipv4.ip_forward`.
    V4,
    /// `net.ipv6.conf.all.forwarding`. Devices that learn their routes from routers go on doing so.
    V6,
}

/// Switches it on for the network namespace of this thread. Writes nothing where it is on already, so that an agent
/// that may not write there is content with a node that was set up before.
///
/// # Errors
/// What the system says, where it is off and cannot be switched on.
pub fn enable_forwarding(family: Forwarding, procfs: &Path) -> io::Result<()> {
    enable_below(family, &procfs.join("sys/net"))
}

fn enable_below(family: Forwarding, root: &Path) -> io::Result<()> {
    match family {
        Forwarding::V4 => set(&root.join("ipv4/ip_forward"), "1"),
        Forwarding::V6 => {
            let devices = root.join("ipv6/conf");
            if fs::read_to_string(devices.join("all/forwarding"))?.trim() == "1" {
                return Ok(());
            }
            // A node that forwards stops to listen to routers unless it is told to (accept_ra 2), and would lose its
            // own default route. `default` is not told: devices that come later are pods', and who listens to a router
            // there has its routes from a pod.
            for device in fs::read_dir(&devices)? {
                let device = device?;
                if ["all", "default"].iter().any(|every| device.file_name() == *every) {
                    continue;
                }
                let switch = device.path().join("accept_ra");
                if fs::read_to_string(&switch).is_ok_and(|value| value.trim() == "1") {
                    set(&switch, "2")?;
                }
            }
            set(&devices.join("all/forwarding"), "1")
        }
    }
}

fn set(switch: &Path, value: &str) -> io::Result<()> {
    if fs::read_to_string(switch)?.trim() == value {
        return Ok(());
    }
    fs::write(switch, value)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Forwarding, enable_below};

    fn write(root: &Path, switch: &str, value: &str) {
        let path = root.join(switch);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, value).expect("it can be written");
    }

    fn read(root: &Path, switch: &str) -> String {
        fs::read_to_string(root.join(switch)).expect("it is there").trim().to_owned()
    }

    #[test]
    fn a_node_that_forwards_still_listens_to_its_routers() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        let listening =
            ["all/accept_ra", "default/accept_ra", "eth0/accept_ra"].map(|switch| (switch, "1\n"));
        for (switch, value) in
            listening.into_iter().chain([("all/forwarding", "0\n"), ("eth1/accept_ra", "0\n")])
        {
            write(root, &format!("ipv6/conf/{switch}"), value);
        }
        enable_below(Forwarding::V6, root).expect("it can be switched on");
        assert_eq!(read(root, "ipv6/conf/all/forwarding"), "1");
        let told =
            ["eth0", "eth1", "all", "default"].map(|name| read(root, &format!("ipv6/conf/{name}/accept_ra")));
        assert_eq!(told, ["2", "0", "1", "1"], "devices that pods will have listen to nobody");
    }

    #[test]
    fn what_is_on_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        write(root, "ipv4/ip_forward", "1\n");
        let switch = root.join("ipv4/ip_forward");
        let before = fs::metadata(&switch).expect("it is there").modified().expect("it has a time");
        enable_below(Forwarding::V4, root).expect("it is on");
        assert_eq!(fs::metadata(&switch).expect("it is there").modified().expect("it has a time"), before);
        assert_eq!(read(root, "ipv4/ip_forward"), "1", "not written again");
        enable_below(Forwarding::V6, root).expect_err("a node without IPv6 says so");
    }
}
