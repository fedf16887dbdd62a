//! Things that run out.

use crate::fixture::fault;

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_full_map_leaves_the_last_good_state_serving_and_is_named_with_its_fix() {
    fault("kernel_a_full_map_leaves_the_last_good_state_serving_and_is_named_with_its_fix", "maps-full");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_full_disk_kills_nothing() {
    fault("kernel_a_full_disk_kills_nothing", "disk-full");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_descriptors_accepting_pauses_and_connections_live() {
    fault("kernel_without_descriptors_accepting_pauses_and_connections_live", "descriptors-exhausted");
}
